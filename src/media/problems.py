"""Explain to people why FFmpeg cannot read a file."""

from __future__ import annotations

import os
from typing import BinaryIO


def why_unreadable(file: BinaryIO) -> str:
    """Explain why FFmpeg cannot open the container of a file."""
    file.seek(0)
    head = file.read(16)
    if head[4:8] == b"ftyp" and not _has_box(file, b"moov"):
        return "the file ends early: the index (moov) of this MP4 is missing"
    if head[:4] in {b"RIFF", b"fLaC", b"OggS", b"\x1a\x45\xdf\xa3", b"FORM", b"caff"} or head[4:8] == b"ftyp":
        return "its header is damaged or the file ends early"
    return "it has none of the accepted audio formats"


def _has_box(file: BinaryIO, wanted: bytes) -> bool:
    """Walk the top-level boxes of an MP4 (ISO/IEC 14496-12, 4.2)."""
    size = file.seek(0, os.SEEK_END)
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4]), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16])
        elif length == 0:
            length = size - position
        if kind == wanted:
            return position + length <= size
        position += max(length, 8)  # a length below 8 is wrong, but the walk must still move on
    return False


def ffmpeg_reason(error: Exception) -> str:
    """FFmpeg's message without the error number and the name of the call."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
