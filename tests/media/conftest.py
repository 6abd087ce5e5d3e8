"""Real audio files, made at test time with the codecs that phones and platforms use."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

MakeAudio = Callable[..., Path]

FORMATS = {
    "mp3": ("mp3", "libmp3lame", 44_100),
    "wav": ("wav", "pcm_s16le", 44_100),
    "flac": ("flac", "flac", 44_100),
    "m4a": ("ipod", "aac", 44_100),
    "ogg": ("ogg", "libopus", 48_000),
    "webm": ("webm", "libopus", 48_000),
}


def tone(seconds: float, rate: int, hertz: float = 440.0) -> npt.NDArray[np.float32]:
    """A sine of amplitude 0.4, shape (samples,)."""
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def write_audio(
    path: Path, kind: str, *, seconds: float = 2.0, rate: int | None = None, layout: str = "stereo", **options: str
) -> Path:
    """Encode a tone as `kind` (a key of FORMATS), whatever the path's extension says."""
    container_format, codec, default_rate = FORMATS[kind]
    rate = rate or default_rate
    with av.open(path, "w", format=container_format, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        resampler = AudioResampler(format=stream.format, layout=layout, rate=rate)
        source = AudioFrame.from_ndarray(tone(seconds, rate)[np.newaxis, :], format="fltp", layout="mono")
        source.sample_rate = rate
        source.pts, source.time_base = 0, Fraction(1, rate)
        for frame in [*resampler.resample(source), *resampler.resample(None), None]:
            container.mux(stream.encode(frame))
    return path


@pytest.fixture
def make_audio(tmp_path: Path) -> MakeAudio:
    def make(name: str, kind: str | None = None, **settings: object) -> Path:
        return write_audio(tmp_path / name, kind or name.rsplit(".", 1)[1], **settings)  # type: ignore[arg-type]

    return make
