"""Another voice or music at the same time: the sound of a window then has no pauses.

Whisper writes fluent text for two voices at once, with words of both or of neither, and is only a little less sure of
it than of one voice. But one voice has a pause between most syllables, in which the level falls by tens of decibels.
Two voices fill each other's pauses, and music does the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from transcription.decoded import FRAMES_PER_S

MIN_S = 3.0  # a shorter window has too few syllables
FLOOR_DB = 40.0  # below the loud parts; how deep silence is depends on the recording
LOUD = 95  # the percentile of a band's level that counts as loud
DB_PER_UNIT = 40.0  # Whisper's features are the logarithm of power to base 10, divided by 4


def change_db(features: npt.NDArray[np.float32]) -> float | None:
    """How much the level of the lower half of the bands changes over the window; None for a short window.

    It is the standard deviation in dB, the mean over the bands. `features` are log-mel, shape (mels, frames), without
    padding. The upper half of the bands is left out because some recordings have nothing there.
    """
    bands, frames = features.shape
    if frames < MIN_S * FRAMES_PER_S:
        return None
    level = DB_PER_UNIT * features[: bands // 2]
    floor = np.percentile(level, LOUD, axis=1, keepdims=True) - FLOOR_DB
    return float(np.maximum(level, floor).std(axis=1).mean())
