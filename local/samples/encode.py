"""Writes sample clips in the container formats of uploads, without time stamps or random numbers in the headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from local.samples.sound import RATE_HZ, Signal


@dataclass(frozen=True)
class Format:
    """The format of one file ending: container, codec, sample rate in Hz, bit rate in bit/s (0: lossless)."""

    container: str
    codec: str
    rate_hz: int
    bit_rate: int


FORMATS: dict[str, Format] = {
    ".mp3": Format("mp3", "libmp3lame", RATE_HZ, 48_000),
    ".wav": Format("wav", "pcm_s16le", 16_000, 0),
    ".flac": Format("flac", "flac", RATE_HZ, 0),
    ".m4a": Format("ipod", "aac", RATE_HZ, 48_000),
    ".ogg": Format("ogg", "libopus", 48_000, 32_000),  # Opus does not support 44.1 kHz; encoders use 48 kHz
    ".webm": Format("webm", "libopus", 48_000, 32_000),
}
CUT_AT = 0.6  # share of the file that arrives before the upload breaks off


def write_clip(path: Path, signal: Signal) -> None:
    """Encode ``signal`` (mono, ``RATE_HZ``) into ``path``; its ending chooses the format.

    Raises ``KeyError`` for an ending that ``FORMATS`` does not name.
    """
    form = FORMATS[path.suffix]
    # bitexact leaves out encoder versions and the random serial numbers of Ogg and Matroska.
    with av.open(str(path), "w", format=form.container, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(form.codec, rate=form.rate_hz)
        stream.codec_context.layout = "mono"
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        if form.bit_rate:
            stream.bit_rate = form.bit_rate
        samples = np.clip(np.round(signal * 32767), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis, :], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="mono", rate=form.rate_hz,
            frame_size=stream.codec_context.frame_size,
        )  # fmt: skip
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def cut_off(path: Path) -> None:
    """Cut an M4A as an interrupted upload does: it loses its index (``moov``), which is at its end."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * CUT_AT)])
    if b"moov" in path.read_bytes():
        raise ValueError(f"{path.name} has its index before the cut, so it would still open; write the index last.")


def duration_s(path: Path) -> float:
    """Return the length of the clip in seconds, counted in decoded samples (headers may lie)."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return float(sum(frame.samples for frame in container.decode(stream)) / stream.rate)
