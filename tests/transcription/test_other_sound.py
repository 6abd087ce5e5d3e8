"""How much the level of a sound changes: much in one voice, little in two voices or over music."""

from __future__ import annotations

import numpy as np
import pytest

from transcription.other_sound import change_db

SYLLABLES = np.where(np.arange(1000) % 20 < 10, 0.0, -30.0)  # dB; 0.1 s loud, 0.1 s soft


def features(level_db: np.ndarray, bands: int = 80) -> np.ndarray:
    return np.tile((level_db / 40).astype(np.float32), (bands, 1))


def test_pauses_between_syllables_are_change() -> None:
    assert change_db(features(SYLLABLES)) == pytest.approx(15.0, abs=0.1)
    assert change_db(features(SYLLABLES - 50, bands=128)) == pytest.approx(15.0, abs=0.1)


def test_a_sound_that_fills_the_pauses_takes_the_change_away() -> None:
    both = np.maximum(SYLLABLES, np.roll(SYLLABLES, 7))
    assert change_db(features(both)) < 13.0  # type: ignore[operator]
    assert change_db(features(np.maximum(SYLLABLES, -3))) == pytest.approx(1.5, abs=0.1)


def test_the_depth_of_silence_does_not_count_and_a_short_window_has_no_value() -> None:
    assert change_db(features(np.where(SYLLABLES < 0, -90.0, 0.0))) == pytest.approx(20.0, abs=0.1)
    assert change_db(features(SYLLABLES[:250])) is None
