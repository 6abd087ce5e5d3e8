"""Voice activity detection: Silero VAD v6, as included in faster-whisper, with the interface that WhisperX expects.

WhisperX's default is a pyannote checkpoint. It takes 25 times as long on a CPU (1 s instead of 0.04 s for 22 s of
audio), and its first calls give varying results. WhisperX's own "silero" method downloads code at run time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from transcription.libraries import SAMPLE_RATE, Vad, VadOptions, WhisperxSegment, get_speech_timestamps
from transcription.transcript import Samples, Window

ONSET = 0.5  # probability from which a frame of 32 ms is speech
MIN_SPEECH_MS = 250  # shorter bursts are clicks and breaths
MIN_SILENCE_MS = 300  # a pause as long as one between sentences ends a span
PAD_S = 0.2  # added around a span: Whisper misreads words that begin at the first sample
MAX_WINDOW_S = 30.0  # the input length of Whisper's encoder
# A quiet clip is made louder for the detector, which finds no voice at -60 dB. Whisper itself does not depend on level.
QUIET_PEAK = 0.1  # a clip is quiet if all but its loudest samples are below
LOUD_PEAK = 0.5
MAX_GAIN = 1000.0  # 60 dB: below, there are only the steps of 16 bits


class SileroVad(Vad):  # type: ignore[misc]  # whisperx has no types
    """WhisperX's interface: it is called with a waveform and returns speech segments."""

    def __init__(self) -> None:
        super().__init__(ONSET)

    @staticmethod
    def preprocess_audio(audio: Samples) -> Samples:
        """Return the samples unchanged: Silero needs no preparation."""
        return audio

    def __call__(self, audio: dict[str, Any], **_: object) -> list[Any]:
        """Find the spans of speech in `audio["waveform"]`, shape (samples,) at 16 kHz, each padded by PAD_S."""
        waveform = audio["waveform"]
        return _as_segments(_spans(waveform), len(waveform) / SAMPLE_RATE)


def speech_windows(samples: Samples) -> list[Window]:
    """Cut a clip into windows of at most 30 s that hold all of its speech; an empty list if there is no speech."""
    if len(samples) < SAMPLE_RATE // 100:  # 10 ms: Silero needs some samples, and no word is shorter
        return []
    spans = _spans(samples)
    if not spans:
        return []
    segments = _as_segments(spans, len(samples) / SAMPLE_RATE)
    windows = []
    for merged in SileroVad.merge_chunks(segments, MAX_WINDOW_S, onset=ONSET, offset=None):
        start, end = float(merged["start"]), float(merged["end"])
        # A window holds whole spans only, because padding never crosses the middle of a pause.
        windows.append(Window(start, end, tuple(span for span in spans if start <= span[0] and span[1] <= end)))
    return windows


def _spans(waveform: Samples) -> list[tuple[float, float]]:
    options = VadOptions(
        threshold=ONSET,
        min_speech_duration_ms=MIN_SPEECH_MS,
        min_silence_duration_ms=MIN_SILENCE_MS,
        max_speech_duration_s=MAX_WINDOW_S - 2 * PAD_S,
        speech_pad_ms=0,
    )
    found = get_speech_timestamps(_audible(waveform), options)
    return [(item["start"] / SAMPLE_RATE, item["end"] / SAMPLE_RATE) for item in found]


def _audible(waveform: Samples) -> Samples:
    """A quiet clip made louder."""
    peak = float(np.quantile(np.abs(waveform), 0.999))
    if peak >= QUIET_PEAK or peak == 0:
        return waveform
    louder: Samples = np.clip(waveform * min(LOUD_PEAK / peak, MAX_GAIN), -1, 1).astype(np.float32)
    return louder


def _as_segments(spans: list[tuple[float, float]], duration_s: float) -> list[Any]:
    """Pad each span, at most to the middle of the pause next to it."""
    ends = [0.0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), duration_s]
    segments = []
    for index, (start, end) in enumerate(spans):
        # Before the first and after the last span, all of the pause may be used.
        earliest = (ends[index] + start) / 2 if index else 0.0
        latest = (end + starts[index + 1]) / 2 if index + 1 < len(spans) else duration_s
        segments.append(WhisperxSegment(max(earliest, start - PAD_S), min(latest, end + PAD_S), "UNKNOWN"))
    return segments
