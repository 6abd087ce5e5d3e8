"""Write an archive anew without one clip, so that unpacking it again does not bring the clip back.

All other members are copied byte for byte with their headers. What belongs to the clip goes with it: sidecar files of
the same name (`a.info.json` beside `a.mp3`), and its row of the metadata. A metadata file that loses a row becomes JSON
lines, which unpack reads as well. The new archive is a plain tar, whatever the compression was.
"""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from archives.clip_metadata import MetadataProblemError, read_table
from archives.decompression import CHUNK, DamagedError
from archives.extract import METADATA_NAMES, Limits, is_audio_name, member_name, most_unpacked
from archives.metadata_matching import match_clips, same_clip
from archives.tar_stream import BLOCK, TarStream
from errors import ArchiveError, OperatorError

_LINES = ("metadata.jsonl", "metadata.ndjson", "metadata.json")  # names that unpack reads as JSON lines
_KEPT = 4 << 20  # bytes between two members that are held in memory; headers are smaller


@dataclass
class Cut:
    """What went, and what could not be looked through."""

    members: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)  # files that lost the clip's row
    unread: list[str] = field(default_factory=list)  # metadata files that cannot be read and stay as they are


@dataclass
class _Plan:
    clip: str
    names: list[str] = field(default_factory=list)  # of all files
    metadata: dict[str, Path] = field(default_factory=dict)  # extracted
    replaced: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # name -> new name and content

    def takes(self, name: str) -> bool:
        """Whether the member is the clip, or belongs to it alone."""
        if name == self.clip:
            return True
        stem = str(PurePosixPath(self.clip).with_suffix("")) if PurePosixPath(self.clip).suffix else self.clip
        return name.startswith(f"{stem}.") and not is_audio_name(name)


class _Raw(TarStream):
    """A stream that keeps the bytes that it has read since they were last taken."""

    raw: bytearray

    def _some(self, size: int) -> bytes:
        data = super()._some(size)
        self.raw += data
        if len(self.raw) > 2 * _KEPT:  # zeros after an end marker, or what follows the archive
            del self.raw[BLOCK:-_KEPT]
        return data


def cut(archive: Path, target: Path, clip: str, folder: Path) -> Cut:
    """Write `archive` without the clip named `clip` to `target`, and compare the two. `folder` is for metadata files.

    If nothing of the clip is in the archive, `target` is not written.

    Raises
    ------
    ArchiveError
        The archive cannot be read, or the new one does not hold what it should.
    OperatorError
        The disk is full.
    """
    try:
        plan = _looked_through(archive, clip, folder)
        done = _without_row(plan)
        if not any(map(plan.takes, plan.names)) and not plan.replaced:
            return done
        expected = _write(archive, target, plan, done)
        if [*_members(target)] != expected:
            raise ArchiveError(f"the new archive without {clip!r} does not hold what it should; nothing is replaced")
    except DamagedError as error:
        raise ArchiveError(f"{archive.name} cannot be read, so nothing can be cut out of it: {error}") from error
    except OSError as error:
        raise OperatorError(f"the new archive cannot be written to {target.parent}: {error.strerror}") from error
    return done


def _looked_through(archive: Path, clip: str, folder: Path) -> _Plan:
    plan = _Plan(clip)
    with TarStream(archive, most_unpacked(archive, Limits())) as stream:
        for entry in stream.entries():
            name = member_name(entry)
            plan.names.append(name)
            if (
                entry.kind == "file"
                and PurePosixPath(name).name.lower() in METADATA_NAMES
                and name not in plan.metadata
            ):
                path = folder / f"{len(plan.metadata):05d}{PurePosixPath(name).suffix.lower()}"
                with path.open("wb") as file:
                    while data := stream.read(CHUNK):
                        file.write(data)
                plan.metadata[name] = path
    return plan


def _without_row(plan: _Plan) -> Cut:
    """Find the clip's row in each metadata file, and make the file anew without it."""
    done = Cut()
    clips = [name for name in dict.fromkeys(plan.names) if is_audio_name(name)]
    clips = clips if plan.clip in clips else [*clips, plan.clip]
    alone = len({PurePosixPath(name).parent for name in plan.metadata}) == 1
    for name, path in plan.metadata.items():
        try:
            table, _ = read_table(path, name)
        except MetadataProblemError:
            done.unread.append(name)
            continue
        if table.bad:
            done.unread.append(name)
        own = match_clips([table], clips, alone=alone).rows.get(plan.clip)
        if own is not None:
            left = [row for row in table.rows if not same_clip(row, own)]
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in left)
            plan.replaced[name] = (_new_name(name, plan), lines.encode(errors="backslashreplace"))
            done.metadata.append(name)
    return done


def _new_name(name: str, plan: _Plan) -> str:
    """A name of JSON lines in the same directory, which no other member has."""
    folder = PurePosixPath(name).parent
    taken = {*plan.names, *(new for new, _ in plan.replaced.values())} - {name}
    free = (str(folder / base) for base in _LINES)
    found = next((new for new in free if new not in taken), None)
    if found is None:
        raise ArchiveError(f"{name} cannot be written without the clip's row: {', '.join(_LINES)} are taken")
    return found


def _write(archive: Path, target: Path, plan: _Plan, done: Cut) -> list[tuple[str, int, int]]:
    """Write what stays -> name, size and checksum of each member of the new archive."""
    kept: list[tuple[str, int, int]] = []
    with _Raw(archive, most_unpacked(archive, Limits())) as stream, target.open("wb") as out:
        stream.raw, padding, keep = bytearray(), 0, False
        for entry in stream.entries():
            if keep:
                out.write(stream.raw[:padding])
            headers, name = _without_zeros(bytes(stream.raw[padding:])), member_name(entry)
            stream.raw.clear()
            keep = not plan.takes(name) and name not in plan.replaced
            if keep:
                out.write(headers)
                kept.append((name, entry.size, _copied(stream, out)))
            elif name not in plan.replaced:
                done.members.append(name)
            while stream.read(CHUNK):
                pass
            stream.raw.clear()
            padding = -entry.size % BLOCK
        if keep:
            out.write(stream.raw[:padding])
        for new, content in plan.replaced.values():
            info = tarfile.TarInfo(new)
            info.size = len(content)
            out.write(info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % BLOCK))
            kept.append((new, len(content), zlib.crc32(content)))
        out.write(bytes(2 * BLOCK))
    return kept


def _copied(stream: _Raw, out: io.BufferedWriter) -> int:
    checksum = 0
    while data := stream.read(CHUNK):
        out.write(data)
        checksum = zlib.crc32(data, checksum)
        stream.raw.clear()
    return checksum


def _members(archive: Path) -> Iterator[tuple[str, int, int]]:
    with TarStream(archive, max(most_unpacked(archive, Limits()), 2 * archive.stat().st_size)) as stream:
        for entry in stream.entries():
            checksum = 0
            while data := stream.read(CHUNK):
                checksum = zlib.crc32(data, checksum)
            yield member_name(entry), entry.size, checksum


def _without_zeros(headers: bytes) -> bytes:
    """The headers without the end marker of an archive before them, in a file of several archives."""
    while headers and not headers[:BLOCK].strip(b"\0"):
        headers = headers[BLOCK:]
    return headers
