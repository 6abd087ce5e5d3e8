"""The largest amplitudes of a clip over time, for drawing it, while its samples pass by.

How long a clip is becomes known only at its end. So the amplitudes are kept in many fine steps, at first one sample
each; whenever the steps run out, neighbours are joined and each step becomes twice as long. At the end there are at
least `_STEPS` steps per peak, unless the clip is so short that each step is one sample.
"""

from __future__ import annotations

import numpy as np

from media.downmix import Mono

PEAKS = 600  # values per clip: as many as a screen can show side by side
FULL_SCALE = 32_768  # the largest amplitude of 16-bit samples
_STEPS = 16  # least steps per peak: a peak begins and ends at most a sixteenth of its length from where it should
_MOST_STEPS = 2 * _STEPS * PEAKS  # even, because neighbours are joined


class Waveform:
    """Takes a clip's samples in pieces and keeps their largest amplitudes, in constant memory."""

    def __init__(self) -> None:
        self.largest = 0  # amplitude of the whole clip, 0 to `FULL_SCALE`
        self._steps = np.zeros(_MOST_STEPS, np.int32)
        self._step = 1  # samples
        self._samples = 0  # so far

    def feed(self, piece: Mono) -> None:
        """Add samples at the end."""
        if not piece.size:
            return
        begin, end = self._samples, self._samples + piece.size
        while end > _MOST_STEPS * self._step:
            half = _MOST_STEPS // 2
            self._steps[:half] = self._steps.reshape(half, 2).max(axis=1)
            self._steps[half:] = 0
            self._step *= 2
        first, last = begin // self._step, (end - 1) // self._step
        starts = np.maximum(np.arange(first, last + 1) * self._step - begin, 0)
        amplitudes = np.maximum.reduceat(np.abs(piece.astype(np.int32)), starts)
        touched = self._steps[first : last + 1]
        np.maximum(touched, amplitudes, out=touched)
        self.largest = max(self.largest, int(amplitudes.max()))
        self._samples = end

    def peaks(self) -> bytes:
        """One byte per equal part of the clip: its largest amplitude, 255 for full scale, rounded up.

        So 0 means that all samples are 0. There are `PEAKS` bytes, or one per sample if there are fewer samples.
        """
        used = -(-self._samples // self._step)
        count = min(PEAKS, used)
        if not count:
            return b""
        starts = np.arange(count) * used // count
        largest = np.maximum.reduceat(self._steps[:used], starts)
        return (-(-largest * 255 // FULL_SCALE)).astype(np.uint8).tobytes()
