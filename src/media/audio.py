"""Reading untrusted audio files, and turning each into the one format that the pipeline keeps.

Everything happens in process, on FFmpeg's libraries through PyAV; no `ffmpeg` program is started. A file is never
believed: the extension is ignored, only the containers and decoders listed below are tried, and FFmpeg gets an open
file object, no protocols and a refusal for every further file it asks for. A playlist, a concat script or an SDP file
that poses as a clip therefore reaches neither the disk nor the network.

`probe`, `decode` and `convert_to_opus` raise `AudioError` with one sentence that names the file and its problem, and
`OperatorError` when the disk or its permissions are to blame.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from errors import AudioError, OperatorError
from media.choice import best_take, damage_notes
from media.downmix import SAMPLE_RATE, Mono
from media.source import How, open_audio, reading, source_format_of

MIN_CLIP_S = 0.1  # below it, nothing can be said, and some encoders and players make nothing of it
OPUS_BIT_RATE = 32_000  # bit/s: transparent for speech at 16 kHz mono, about 4 kB per second
OPUS_COMPLEXITY = "5"  # of 10: conversion takes 44 % of the CPU time of 10, and speech loses nothing one can hear


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says; `duration_s` is its claim (None when it makes none), nothing was decoded."""

    duration_s: float | None
    source_format: str  # container/codec, for example mp3/mp3float
    sample_rate: int  # Hz
    channels: int


@dataclass(frozen=True)
class ConvertedClip:
    """A conversion that went well. `damaged_packets` were skipped, as players skip them.

    `notes` say in one sentence each what of the upload the clip does not hold, or holds differently.
    """

    duration_s: float  # of the audio as decoded
    source_format: str  # container/codec
    source_bytes: int
    source_sha256: str
    damaged_packets: int = 0
    notes: tuple[str, ...] = ()


def probe(path: Path) -> AudioInfo:
    """Read a file's header.

    Raises
    ------
    AudioError
        The file is no audio that is accepted here; the message says why.
    """
    with open_audio(path, How()) as (container, stream):
        claimed = container.duration
        return AudioInfo(
            duration_s=claimed / av.time_base if claimed and claimed > 0 else None,
            source_format=source_format_of(container, stream),
            sample_rate=stream.sample_rate or 0,
            channels=stream.channels or 0,
        )


def decode(path: Path, *, max_clip_s: float | None = None) -> npt.NDArray[np.float32]:
    """Decode a file to what Whisper hears: float32 mono at 16 kHz in [-1, 1), shape (samples,).

    The samples equal those of `whisperx.load_audio` bit for bit (the same resampler, and 16-bit steps in between),
    unless its plain mix of the channels would lose what they hold (`downmix.py`).

    Raises
    ------
    AudioError
        The file cannot be decoded, is damaged throughout, or is longer than `max_clip_s`.
    """
    take, _ = best_take(path, max_clip_s, list)
    return np.concatenate(take.result).astype(np.float32) / np.float32(32768)


def convert_to_opus(source: Path, target: Path, *, max_clip_s: float) -> ConvertedClip:
    """Convert `source` to Opus, 32 kbit/s, 16 kHz mono, in Ogg at `target`.

    The target appears complete or not at all: it is written under a temporary name beside it, then renamed. The same
    input gives the same bytes, without the source's tags.

    Raises
    ------
    AudioError
        The source is not audio, is damaged throughout, is shorter than `MIN_CLIP_S` or longer than `max_clip_s`
        seconds; nothing is written.
    OperatorError
        The source cannot be read or the target cannot be written (disk full, permissions).
    """
    # The encoded clip is collected in memory (4 kB per second, bounded by max_clip_s) and written by Python, because
    # FFmpeg does not report a full disk reliably.
    take, notes = best_take(source, max_clip_s, _encoded)
    tally = take.tally
    if tally.samples < MIN_CLIP_S * SAMPLE_RATE:
        raise AudioError(
            f"{source.name!r} is too short: {tally.samples / SAMPLE_RATE:.4f} s of audio, at least {MIN_CLIP_S:g} s "
            "are needed"
        )
    with reading(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    _write_atomically(target, take.result.getbuffer())
    return ConvertedClip(
        tally.samples / SAMPLE_RATE, take.source_format, size, digest, tally.bad, tuple(damage_notes(tally) + notes)
    )


def _encoded(pieces: Iterator[Mono]) -> io.BytesIO:
    target = io.BytesIO()
    _encode_opus(pieces, target)
    return target


def _encode_opus(pieces: Iterator[Mono], target: BinaryIO) -> None:
    # Without "bitexact" the Ogg serial number is random, and equal clips would not give equal files.
    with av.open(target, "w", format="ogg", container_options={"fflags": "+bitexact"}) as container:
        options = {"application": "audio", "compression_level": OPUS_COMPLEXITY}
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, options=options)
        stream.layout = "mono"
        stream.bit_rate = OPUS_BIT_RATE
        position = 0
        for piece in pieces:
            frame = AudioFrame.from_ndarray(piece[np.newaxis, :], format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts, frame.time_base = position, Fraction(1, SAMPLE_RATE)
            position += len(piece)
            container.mux(stream.encode(frame))
        if position:  # the encoder of a stream without samples was never opened
            container.mux(stream.encode(None))


def _write_atomically(target: Path, content: memoryview) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".converting-", suffix=".opus")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:  # raised again: whatever happened, no half-written file may stay
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OperatorError(f"{target} cannot be written: {error.strerror}; check space and permissions") from error
