"""Archives whose clips are tones: small, quick to convert, and each with its own pitch."""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

RATE = 16_000
SECONDS = 0.3
FIRST_HZ, STEP_HZ, PITCHES = 300, 10, 300  # up to 3290 Hz, which Opus at 16 kHz keeps


def pitch(number: int) -> int:
    """The pitch of the batch's clip `number`; 0 for silence, which is one clip in fifty."""
    return 0 if number % 50 == 49 else FIRST_HZ + STEP_HZ * (number % PITCHES)


def is_broken(number: int) -> bool:
    """Whether the clip is not audio: one clip in forty."""
    return number % 40 == 39


def clip_name(number: int) -> str:
    return f"clip {number:04d}.{'mp3' if is_broken(number) else 'wav'}"


def clip(number: int) -> bytes:
    if is_broken(number):
        return b"this is no audio " * 20
    time = np.arange(int(RATE * SECONDS)) / RATE
    samples = np.sin(2 * np.pi * pitch(number) * time) * (8_000 if pitch(number) else 0)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def write_archive(path: Path, clips: int | Sequence[int]) -> None:
    """Write a tar of the clips with these numbers, or of this many clips from the first."""
    with tarfile.open(path, "w") as archive:
        for number in range(clips) if isinstance(clips, int) else clips:
            content = clip(number)
            info = tarfile.TarInfo(clip_name(number))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
