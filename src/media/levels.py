"""What a player needs of a clip before it has its audio: the waveform to draw, and how loud the clip is.

Both are measured on the samples that become the stored clip (16 kHz mono), not on the upload: that is what is heard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from media.downmix import SAMPLE_RATE, Mono
from media.loudness import Loudness
from media.waveform import FULL_SCALE, Waveform

_AT_A_TIME = SAMPLE_RATE  # samples; decoders give many small pieces, and each call has its price


@dataclass(frozen=True)
class Levels:
    """The levels of one clip, as they are stored in `audio_files`."""

    peaks: bytes  # see `Waveform.peaks`
    loudness_lufs: float | None  # see `Loudness.integrated_lufs`
    peak_dbfs: float | None  # the largest sample, at most 0; None if all samples are 0


class LevelMeter:
    """Measures samples on their way to another consumer."""

    def __init__(self) -> None:
        self._waveform = Waveform()
        self._loudness = Loudness()

    def watch(self, pieces: Iterator[Mono]) -> Iterator[Mono]:
        """Yield the pieces unchanged, and measure them."""
        held: list[Mono] = []
        samples = 0
        for piece in pieces:
            held.append(piece)
            samples += len(piece)
            if samples >= _AT_A_TIME:
                self._measure(held)
                held, samples = [], 0
            yield piece
        self._measure(held)

    def levels(self) -> Levels:
        """The levels of all pieces; call it once, after `watch` has ended."""
        largest = self._waveform.largest
        return Levels(
            peaks=self._waveform.peaks(),
            loudness_lufs=self._loudness.integrated_lufs(),
            peak_dbfs=20 * math.log10(largest / FULL_SCALE) if largest else None,
        )

    def _measure(self, pieces: list[Mono]) -> None:
        if not pieces:
            return
        samples = np.concatenate(pieces)
        self._waveform.feed(samples)
        self._loudness.feed(samples)


def levels_of(samples: npt.NDArray[np.float32]) -> Levels:
    """The levels of a decoded clip: float32 mono at 16 kHz in [-1, 1), shape (samples,)."""
    meter = LevelMeter()
    starts = range(0, len(samples), _AT_A_TIME)
    parts = (samples[start : start + _AT_A_TIME] * FULL_SCALE for start in starts)
    for _ in meter.watch(np.clip(np.rint(part), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16) for part in parts):
        pass
    return meter.levels()
