"""The parts of a clip in which somebody speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

if TYPE_CHECKING:
    from transcription.transcript import Window

RATE = 16_000
MAX_WINDOW_S = 30.0  # what Whisper's encoder takes at once


def speech_windows(clip: npt.NDArray[np.float32]) -> list[Window]:
    import transcription.libraries  # noqa: F401 -- first: it silences what its libraries say when imported
    from transcription import vad

    return vad.speech_windows(clip)


def noise(seconds: float, level: float) -> npt.NDArray[np.float32]:
    return (level * np.random.default_rng(0).standard_normal(int(seconds * RATE))).astype(np.float32)


def chord(seconds: float) -> npt.NDArray[np.float32]:
    times = np.arange(int(seconds * RATE)) / RATE
    tones = [np.sin(2 * np.pi * hertz * times) for hertz in (261.6, 329.6, 392.0)]
    return np.asarray(0.1 * np.sum(tones, axis=0), np.float32)


@pytest.mark.parametrize(
    "clip",
    [
        np.zeros(0, np.float32),
        np.zeros(10, np.float32),
        np.zeros(10 * RATE, np.float32),
        noise(10, 0.001),
        noise(10, 0.3),
        chord(10),
    ],
    ids=["nothing", "ten samples", "silence", "room noise", "loud noise", "chord"],
)
def test_no_window_where_nobody_speaks(clip: npt.NDArray[np.float32]) -> None:
    assert sum(window.speech_s for window in speech_windows(clip)) < 0.5


def test_speech_is_found_between_silences(speech: npt.NDArray[np.float32]) -> None:
    clip = np.concatenate([np.zeros(5 * RATE, np.float32), speech, np.zeros(5 * RATE, np.float32)])
    windows = speech_windows(clip)
    assert 4.5 < windows[0].start < 6.5
    assert windows[-1].end < len(clip) / RATE - 4
    assert sum(window.speech_s for window in windows) > 0.5 * len(speech) / RATE


def test_windows_are_short_in_order_and_hold_all_speech(speech: npt.NDArray[np.float32]) -> None:
    clip = np.tile(speech, 8)
    windows = speech_windows(clip)
    assert len(windows) > 2
    previous = 0.0
    for window in windows:
        assert previous <= window.start < window.end <= len(clip) / RATE
        assert window.end - window.start <= MAX_WINDOW_S
        assert window.spans
        assert all(window.start <= start < end <= window.end for start, end in window.spans)
        previous = window.end
    single = sum(window.speech_s for window in speech_windows(speech))
    assert sum(window.speech_s for window in windows) == pytest.approx(8 * single, rel=0.1)
