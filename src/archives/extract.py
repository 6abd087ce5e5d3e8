"""Extract files from an untrusted tar, and record which members were skipped and why.

An archive may hold anything. Names in the archive never become paths: the files are called `00001.mp3` and so on. Only
regular files are written. Sizes, counts and the ratio of expansion are limited. The first bytes of the archive tell
`.tar`, `.tar.gz`, `.tar.bz2`, `.tar.xz` and `.tar.zst` apart. A member that cannot be a clip is skipped with a reason,
and the others are extracted. If a limit is broken or the data are cut off or corrupt, the whole archive is refused,
because half an archive would look like a whole one.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from archives.decompression import CHUNK, DamagedError
from archives.tar_stream import Entry, NotTarError, TarStream
from errors import ArchiveError, OperatorError, RetryableError
from jobs.payloads import MAX_NAME_BYTES

# Files that describe the clips of their directory, the best format first.
METADATA_NAMES = (
    "metadata.parquet", "metadata.jsonl", "metadata.ndjson", "metadata.json", "metadata.csv", "metadata.tsv",
)  # fmt: skip
RATIO_FLOOR = 64 << 20  # bytes that even a very small archive may unpack to: text compresses well

# Containers that may hold an audio track; the unpack worker probes the file to find out.
# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".mp3", ".m4a", ".m4b", ".aac", ".ogg", ".oga", ".opus", ".flac", ".wav", ".wma", ".aif", ".aiff", ".caf", ".amr",
    ".mka", ".mkv", ".mp4", ".m4v", ".mov", ".webm", ".3gp",
})
SIDECAR_SUFFIXES = frozenset({
    ".parquet", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".md", ".log", ".xml", ".yaml", ".yml", ".html",
    ".htm", ".pdf", ".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".heic", ".svg", ".srt", ".vtt", ".lrc", ".ass",
    ".sha256", ".md5", ".sqlite", ".db",
})
ARCHIVE_SUFFIXES = frozenset({
    ".tar", ".tgz", ".txz", ".tbz2", ".tzst", ".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".cab", ".iso",
})
# Files that operating systems add. Another name that begins with a dot may be a clip or a directory of clips.
JUNK_NAMES = frozenset({
    "__macosx", ".ds_store", ".appledouble", ".lsoverride", ".spotlight-v100", ".trashes", ".fseventsd",
    ".temporaryitems", ".documentrevisions-v100", ".apdisk", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin",
    "system volume information", "@eadir", ".directory", ".nomedia", ".git", ".svn",
})
# fmt: on

MemberKind = Literal["clip", "metadata", "sidecar", "unknown"]


@dataclass(frozen=True)
class Limits:
    """Limits of one archive. Sizes are unpacked bytes; skipped members count too, because they cost time."""

    total_bytes: int = 20 << 30
    member_bytes: int = 512 << 20  # half an hour of 48 kHz stereo WAV is 346 MB
    members: int = 20_000
    ratio: int = 100  # audio hardly compresses; text reaches 10, zeros thousands


@dataclass(frozen=True)
class Member:
    """A file extracted from the archive.

    `name` is the normalised path inside the archive; undecodable bytes and control characters are backslash escapes.
    `path` is the file on disk, `size` its size in bytes.
    """

    name: str
    path: Path
    size: int

    @property
    def kind(self) -> MemberKind:
        """The kind that the name suggests; the caller must probe "unknown" (no extension, or an unusual one)."""
        base = PurePosixPath(self.name).name.lower()
        suffix = _suffix(base)
        if base in METADATA_NAMES:
            return "metadata"
        if suffix in AUDIO_SUFFIXES:
            return "clip"
        return "sidecar" if suffix in SIDECAR_SUFFIXES else "unknown"


@dataclass(frozen=True)
class Skipped:
    """A member that was not extracted, and the reason for the operator."""

    name: str
    reason: str


@dataclass(frozen=True)
class Extraction:
    members: tuple[Member, ...]
    skipped: tuple[Skipped, ...]


def is_audio_name(name: str) -> bool:
    """Whether the name has the extension of an audio file, or of a container that may hold audio."""
    return _suffix(name) in AUDIO_SUFFIXES


def member_name(entry: Entry) -> str:
    """The normalised path in the archive, by which a clip is known from then on."""
    return "/".join(part for part in _shown(entry.raw_name).split("/") if part not in {"", "."})


def extract(
    archive: Path, target_dir: Path, limits: Limits | None = None, on_progress: Callable[[], None] = lambda: None
) -> Extraction:
    """Extract the regular files of `archive` into `target_dir`, which must be missing or empty.

    Calls `on_progress` for every chunk that is read or unpacked and for every member; its exceptions are not caught.
    After an error `target_dir` may hold some files; the caller removes it.

    Raises
    ------
    ArchiveError
        The file is not a tar, is cut off or corrupt, or breaks a limit; the message names the member.
    OperatorError
        The disk is full or cannot be written.
    RetryableError
        `target_dir` holds files of another run.
    """
    limits = limits or Limits()
    most = most_unpacked(archive, limits)
    with TarStream(archive, most, on_progress) as stream, _Target(target_dir) as target:
        run = _Run(archive.name, limits, target)
        try:
            for entry in stream.entries():
                run.take(entry, stream)
        except NotTarError as error:
            raise ArchiveError(
                f"{archive.name} is not a readable archive: {error}; it must be a tar, plain or compressed with gzip, "
                "bzip2, xz or zstd"
            ) from error
        except DamagedError as error:
            raise ArchiveError(f"{archive.name} is damaged at {run.where}: {error}") from error
    if stream.ignored_tail:
        reason = f"{stream.ignored_tail:,} bytes of data follow the archive's end marker; they are not read"
        run.skipped.append(Skipped("(after the end)", reason))
    return Extraction(tuple(run.members), tuple(run.skipped))


def most_unpacked(archive: Path, limits: Limits) -> int:
    """Bytes that an archive of its size may unpack to; raises OperatorError when it cannot be read."""
    try:
        size = archive.stat().st_size
    except OSError as error:
        raise OperatorError(f"the archive {archive} cannot be read: {error.strerror}") from error
    return max(RATIO_FLOOR, size * limits.ratio)


class _Run:
    """The state of one extraction: the members so far, and the limits."""

    def __init__(self, archive: str, limits: Limits, target: _Target) -> None:
        self.archive, self._limits, self._target = archive, limits, target
        self.members: list[Member] = []
        self.skipped: list[Skipped] = []
        self.where = "its first member"
        self._names: set[str] = set()
        self._entries = 0
        self._bytes = 0

    def take(self, entry: Entry, stream: TarStream) -> None:
        """Write one member, or skip it with a reason; directories are skipped without one."""
        shown = _shown(entry.raw_name)
        self._count(entry, shown)
        if entry.kind == "directory":
            self.where = f"the member after {shown!r}"
            return
        self.where = f"member {self._entries} ({shown!r})"
        name = member_name(entry)
        if reason := self._refusal(entry, name):
            self.skipped.append(Skipped(name or shown, reason))
        else:
            self._names.add(name)
            path = self._target.write(f"{len(self.members) + 1:05d}{_safe_suffix(name)}", stream)
            self.members.append(Member(name, path, entry.size))
        self._pass_rest(stream, shown)

    def _pass_rest(self, stream: TarStream, shown: str) -> None:
        while stream.read(CHUNK):
            pass
        self.where = f"the data after member {self._entries} ({shown!r})"

    def _count(self, entry: Entry, shown: str) -> None:
        # Checked before the member is written, so that the disk cannot fill up first.
        self._entries += 1
        if self._entries > self._limits.members:
            raise ArchiveError(f"{self.archive} holds more than {self._limits.members:,} members, which is the limit")
        total = self._bytes + entry.size
        if total > self._limits.total_bytes:
            raise ArchiveError(
                f"{self.archive} is too large unpacked: {self._bytes:,} bytes so far and {entry.size:,} of {shown!r} "
                f"make {total:,}, above the limit of {self._limits.total_bytes:,}"
            )
        self._bytes = total

    def _refusal(self, entry: Entry, name: str) -> str | None:
        """The reason why the member is not extracted; None when it is extracted."""
        parts = name.split("/")
        base = parts[-1].lower()
        # `tar -P` writes absolute names; they lose their slash. A name with ".." is always refused.
        reasons = (
            (entry.kind != "file", f"it is a {entry.kind}; only regular files are extracted"),
            (not name.strip(), "it has no name"),
            (".." in parts, "its name leaves the archive ('..')"),
            # The name is measured with its escapes, which are up to four times as long as the original bytes.
            (len(name.encode()) > MAX_NAME_BYTES, f"its name is longer than {MAX_NAME_BYTES:,} bytes"),
            (base.startswith("._") or "__MACOSX" in parts, "it is a file that macOS adds"),
            (not JUNK_NAMES.isdisjoint(name.lower().split("/")), "it is a file that an operating system adds"),
            # A copy that was interrupted also has such a name: `.a.mp3.Xy12Ab`.
            (base.startswith(".") and not is_audio_name(base), "it is a hidden file"),
            (_suffix(base) in ARCHIVE_SUFFIXES, "it is an archive inside the archive"),
            (
                entry.size > self._limits.member_bytes,
                f"it has {entry.size:,} bytes; the limit for one member is {self._limits.member_bytes:,}",
            ),
            # The first member stays: an extracted file is never replaced by a member that was appended later.
            (name in self._names, "an earlier member has the same name"),
        )
        return next((reason for applies, reason in reasons if applies), None)


class _Target:
    """The directory for the files. It is kept open, so that nobody can replace it by a link."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise self._mapped(error) from error
        if any(directory.iterdir()):
            os.close(self._fd)
            raise RetryableError(f"{directory} holds files of another run; remove them first")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self, name: str, stream: TarStream) -> Path:
        """Write the current member of `stream` to a new file (mode 0600)."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.fdopen(os.open(name, flags, 0o600, dir_fd=self._fd), "wb", buffering=0)
        except OSError as error:
            raise self._mapped(error) from error
        with file:
            while data := memoryview(stream.read(CHUNK)):
                self._write_all(file, data)
        return self._directory / name

    def _write_all(self, file: FileIO, data: memoryview) -> None:
        try:
            while data:
                data = data[file.write(data) :]
        except OSError as error:
            raise self._mapped(error) from error

    def _mapped(self, error: OSError) -> OperatorError:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return OperatorError(
                f"no space is left to unpack into {self._directory}; make room on that volume or set SCRATCH_ROOT to a "
                "larger one"
            )
        return OperatorError(f"cannot unpack into {self._directory}: {error.strerror}; check who owns the directory")


def _shown(raw: bytes) -> str:
    """Make a name safe for logs, the database and web pages."""
    text = raw.decode("utf-8", "backslashreplace")
    # Control characters, line separators, and characters that change the direction of writing.
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", lambda match: ascii(match[0])[1:-1], text)


def _suffix(name: str) -> str:
    """The extension in lower case. A file named `.mp3` (a clip with an empty title) has the extension `.mp3`."""
    base = PurePosixPath(name.lower()).name
    return PurePosixPath(base).suffix or (base if base.startswith(".") else "")


def _safe_suffix(name: str) -> str:
    suffix = _suffix(name)
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""
