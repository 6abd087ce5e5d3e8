"""Find MP3 or AAC sound after other bytes, such as a web server's header or a damaged beginning.

FFmpeg refuses such a file or decodes noise from it, because any two bytes may look like the start of a frame. This
module accepts sound only where frames follow each other without a gap for a second, which does not happen by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MIN_SOUND_S = 1.0  # frames in a row that count as sound
_MOST_BYTES = 64 << 20  # bytes that are searched
_MOST_STEPS = 400_000  # frame headers that are read; limits the time for a hostile file with many headers
# These kinds of files are not searched for sound, because the first error message says more about them.
_FOREIGN = (
    b"PK\x03\x04", b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"7z\xbc\xaf", b"\x1f\x8b", b"\xfd7zXZ", b"Rar!",
    b"BZh", b"\x28\xb5\x2f\xfd", b"SQLite", b"\x7fELF", b"MZ",
)  # fmt: skip

_MPEG1_KBIT = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_MPEG2_KBIT = {
    1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_ADTS_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


@dataclass(frozen=True)
class _Frame:
    length: int  # bytes
    samples: int
    rate: int  # Hz
    kind: tuple[str, int, int]  # the FFmpeg format, and the values that are constant within a stream


@dataclass(frozen=True)
class Sound:
    """The parts of a file that are sound, joined."""

    format: str  # FFmpeg's name: mp3 or aac
    content: bytes
    seconds: float
    first: int  # offset of the first sound in the file
    skipped: int  # bytes of the file that are not sound


def find_sound(file: BinaryIO) -> Sound | None:
    """The MP3 or AAC frames of a file that are in rows of at least one second; None when there are none."""
    file.seek(0)
    data = file.read(_MOST_BYTES)
    if data.startswith(_FOREIGN) or data[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return None
    rows = list(_rows(data))
    if not rows:
        return None
    # Use one stream in one format: that of the longest row.
    kind = max(rows, key=lambda row: row[3])[2]
    rows = [row for row in rows if row[2] == kind]
    content = b"".join(data[start:end] for start, end, _, _ in rows)
    return Sound(kind[0], content, sum(row[3] for row in rows), rows[0][0], len(data) - len(content))


def _rows(data: bytes) -> Iterator[tuple[int, int, tuple[str, int, int], float]]:
    """Yield (start, end, kind, seconds) of each row of frames that is long enough."""
    position = steps = 0
    while (position := data.find(b"\xff", position)) >= 0 and steps < _MOST_STEPS:
        steps += 1
        end, seconds, first = position, 0.0, _frame(data, position)
        frame = first
        while frame is not None and first is not None and frame.kind == first.kind and end + frame.length <= len(data):
            end, seconds = end + frame.length, seconds + frame.samples / frame.rate
            steps += 1
            frame = _frame(data, end)
        if first is not None and seconds >= MIN_SOUND_S:
            yield position, end, first.kind, seconds
            position = end
        else:
            position += 1


def _frame(data: bytes, at: int) -> _Frame | None:
    head = data[at : at + 7]
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    return _adts(head) if head[1] & 0xF6 == 0xF0 else _mpeg(head)


def _mpeg(head: bytes) -> _Frame | None:
    """An MPEG audio frame (ISO/IEC 11172-3, 2.4.1.3)."""
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, hertz, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bits in {0, 15} or hertz == 3:
        return None
    rate = _MPEG_HZ[version][hertz]
    kbit = (_MPEG1_KBIT if version == 3 else _MPEG2_KBIT)[layer][bits - 1]
    if layer == 1:
        length, samples = (12_000 * kbit // rate + padding) * 4, 384
    else:
        samples = 576 if layer == 3 and version != 3 else 1152
        length = samples * 125 * kbit // rate + padding
    return _Frame(length, samples, rate, ("mp3", layer, rate))


def _adts(head: bytes) -> _Frame | None:
    """An AAC frame (ISO/IEC 13818-7, 6.2)."""
    hertz = head[2] >> 2 & 15
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if hertz >= len(_ADTS_HZ) or length < 8:
        return None
    return _Frame(length, 1024 * ((head[6] & 3) + 1), _ADTS_HZ[hertz], ("aac", 0, _ADTS_HZ[hertz]))
