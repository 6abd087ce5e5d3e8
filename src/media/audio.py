"""Read untrusted audio files, and convert each clip to the one format that the pipeline keeps.

The work runs in this process, with FFmpeg's libraries through PyAV; no `ffmpeg` program is started. The file name's
extension is ignored. Only the containers and decoders listed in `source.py` are tried. FFmpeg gets an open file object
and no protocols, and may open no other file. So a playlist, a concat script or an SDP file with the name of a clip
reaches neither the disk nor the network.

`probe`, `decode` and `convert_to_opus` raise `AudioError` with one sentence that names the file and its problem, and
`OperatorError` when the disk or its permissions cause the failure.
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
from media.levels import LevelMeter, Levels
from media.source import How, open_audio, reading, source_format_of

MIN_CLIP_S = 0.1  # a shorter clip holds no word, and some encoders and players fail on it
OPUS_BIT_RATE = 32_000  # bit/s: transparent for speech at 16 kHz mono, about 4 kB per second
OPUS_COMPLEXITY = "5"  # takes 44 % of the CPU time of the maximum, 10; for speech the difference is not audible


@dataclass(frozen=True)
class AudioInfo:
    """The data in a file's header. Nothing was decoded; `duration_s` is None when the header gives no duration."""

    duration_s: float | None
    source_format: str  # container/codec, for example mp3/mp3float
    sample_rate: int  # Hz
    channels: int


@dataclass(frozen=True)
class ConvertedClip:
    """A converted clip. `damaged_packets` counts the packets that were skipped, as players do.

    Each of `notes` is one sentence about a part of the upload that the clip lacks or that was changed.
    """

    duration_s: float  # of the audio as decoded
    source_format: str  # container/codec
    source_bytes: int
    source_sha256: str
    levels: Levels
    damaged_packets: int = 0
    notes: tuple[str, ...] = ()


def probe(path: Path) -> AudioInfo:
    """Read a file's header.

    Raises
    ------
    AudioError
        The file is not audio in an accepted format; the message says why.
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
    """Decode a file to Whisper's input: float32 mono at 16 kHz in [-1, 1), shape (samples,).

    The samples equal those of `whisperx.load_audio` bit for bit (the same resampler, and 16-bit steps in between),
    unless a plain mix of the channels would lose sound (`downmix.py`).

    Raises
    ------
    AudioError
        The file cannot be decoded, is damaged throughout, or is longer than `max_clip_s`.
    """
    take, _ = best_take(path, max_clip_s, list)
    return np.concatenate(take.result).astype(np.float32) / np.float32(32768)


def convert_to_opus(source: Path, target: Path, *, max_clip_s: float) -> ConvertedClip:
    """Convert `source` to Opus, 32 kbit/s, 16 kHz mono, in Ogg at `target`.

    The clip is written under a temporary name in the same directory and then renamed, so the target is never
    incomplete. The same input gives the same bytes. The source's tags are left out.

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
            f"{source.name!r} is too short: it has {tally.samples / SAMPLE_RATE:.4f} s of audio, but needs at least "
            f"{MIN_CLIP_S:g} s"
        )
    with reading(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    opus, levels = take.result
    _write_atomically(target, opus.getbuffer())
    return ConvertedClip(
        duration_s=tally.samples / SAMPLE_RATE,
        source_format=take.source_format,
        source_bytes=size,
        source_sha256=digest,
        levels=levels,
        damaged_packets=tally.bad,
        notes=tuple(damage_notes(tally) + notes),
    )


def _encoded(pieces: Iterator[Mono]) -> tuple[io.BytesIO, Levels]:
    target, meter = io.BytesIO(), LevelMeter()
    _encode_opus(meter.watch(pieces), target)
    return target, meter.levels()


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
        if position:  # without samples the encoder was never opened
            container.mux(stream.encode(None))


def _write_atomically(target: Path, content: memoryview) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".converting-", suffix=".opus")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:  # raised again: no incomplete file may stay
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OperatorError(f"{target} cannot be written: {error.strerror}; check space and permissions") from error
