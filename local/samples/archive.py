"""Reads the manifest of the sample clips with their expected results, and packs the clips into an archive.

Needs the standard library only, so that the demo and the tests can use it before anything else is installed.
"""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, get_args

End = Literal["done", "no_speech", "failed"]

FOLDER = Path(__file__).resolve().parent
CLIPS = FOLDER / "clips"
METADATA = FOLDER / "metadata.parquet"
MANIFEST = FOLDER / "manifest.toml"
LIBRIVOX = FOLDER / "librivox.toml"
ARCHIVE_NAME = "2025-06-22_14-30.tar.xz"  # the first minute of the uploads inside
PACKED_AT = datetime(2025, 6, 22, 14, 40, tzinfo=UTC)  # fixed, so that equal clips give equal bytes


@dataclass(frozen=True)
class SampleClip:
    """One clip and its expected result.

    ``file`` is the name inside the archive, ``duration_s`` is in seconds (0.0 if nothing can be decoded), ``language``
    is an ISO 639-1 code and ``text`` what is said (both empty without speech).  ``flagged`` holds the ids of the
    policies whose verdict must be a violation; every other policy must not flag the clip.  ``source`` is ``samples``
    for clips kept here and ``librivox`` for those fetched at set-up.
    """

    file: str
    sha256: str
    format: str
    duration_s: float
    voice: str
    language: str
    text: str
    end: End
    flagged: tuple[str, ...]
    note: str
    source: Literal["samples", "librivox"]


def _clip(entry: dict[str, Any], source: Literal["samples", "librivox"], origin: Path) -> SampleClip:
    try:
        clip = SampleClip(**{**entry, "flagged": tuple(entry["flagged"])}, source=source)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{origin.name}: an entry has missing or unknown fields: {error}.") from error
    if clip.end not in get_args(End):
        raise ValueError(f"{origin.name}: {clip.file} ends in {clip.end!r}, which is none of {get_args(End)}.")
    return clip


def load_manifest() -> list[SampleClip]:
    """Return every sample clip: first those of this folder, then those of LibriVox.

    Raises ``ValueError`` if an entry cannot be read or two clips share a name.
    """
    kept = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["clip"]
    clips = [_clip(entry, "samples", MANIFEST) for entry in kept]
    for entry in tomllib.loads(LIBRIVOX.read_text(encoding="utf-8"))["clip"]:
        fields = {key: value for key, value in entry.items() if key != "path"}
        clips.append(_clip({"file": Path(entry["path"]).name, **fields}, "librivox", LIBRIVOX))
    names = [clip.file for clip in clips]
    if len(set(names)) != len(names):
        raise ValueError("Two sample clips have the same file name; the names in a batch must be unique.")
    return clips


def _checked_clips() -> list[Path]:
    """Return the paths of the kept clips; raises ``ValueError`` for one that is missing or was changed."""
    paths = []
    for clip in load_manifest():
        if clip.source != "samples":
            continue
        path = CLIPS / clip.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != clip.sha256:
            raise ValueError(f"clips/{clip.file} is missing or differs from manifest.toml; check it out again.")
        paths.append(path)
    return paths


def _member(path: Path) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path.name)
    info.size = path.stat().st_size
    info.mtime = int(PACKED_AT.timestamp())
    info.mode = 0o644
    return info  # owner 0 and empty names are TarInfo's own defaults


def _writer(path: Path, *, xz: bool) -> IO[bytes]:
    """Open ``path`` for writing, through xz if asked."""
    # Audio cannot be compressed further: the lowest preset gives the same size in a tenth of the time.
    return lzma.open(path, "wb", preset=0) if xz else path.open("wb")


def build_archive(dest: Path, extra: Sequence[Path] = ()) -> Path:
    """Pack the clips, ``metadata.parquet`` and the ``extra`` files (LibriVox) flat into one archive; return its path.

    ``dest`` is a folder (made if missing; the archive is then called ``ARCHIVE_NAME``) or the archive itself, ending
    in ``.tar`` or ``.tar.xz``.  The same files give the same bytes.  The archive appears under its name only when it is
    complete.  Raises ``ValueError`` for a changed clip or two files of one name, ``OSError`` if it cannot be written.
    """
    target = dest if dest.name.endswith((".tar", ".tar.xz")) else dest / ARCHIVE_NAME
    members = sorted([*_checked_clips(), METADATA, *extra], key=lambda path: path.name)
    names = [path.name for path in members]
    if len(set(names)) != len(names):
        raise ValueError("Two files of the archive have the same name; rename the extra file.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    with (
        _writer(partial, xz=target.suffix == ".xz") as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in members:
            with path.open("rb") as content:
                tar.addfile(_member(path), content)
    return partial.replace(target)
