"""Whisper base on the sample clips: words, languages, and silence where nobody speaks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np
import pytest

if TYPE_CHECKING:
    from transcription.whisperx_engine import WhisperxTranscriber

RATE = 16_000


def words(text: str) -> str:
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower().replace("-", " ")).split())


def test_speech_is_understood(real: WhisperxTranscriber, samples: dict[str, Any]) -> None:
    spoken = sorted((clip for clip in samples.values() if clip.end == "done"), key=lambda clip: len(clip.samples))[:4]
    transcripts = real.transcribe([clip.samples for clip in spoken])
    for clip, transcript in zip(spoken, transcripts, strict=True):
        assert not transcript.no_speech
        assert transcript.language == clip.language
        assert jiwer.wer(words(clip.text), words(transcript.text)) < 0.1
        assert len(transcript.segments) >= 2
        assert all(segment.end - segment.start < 20 for segment in transcript.segments)
        assert transcript.segments[-1].end <= len(clip.samples) / RATE + 0.01
        assert transcript.avg_logprob is not None
        assert transcript.avg_logprob > -0.4


def test_music_and_silence_say_nothing(real: WhisperxTranscriber, samples: dict[str, Any]) -> None:
    quiet = [clip.samples for clip in samples.values() if clip.end == "no_speech"]
    assert quiet
    hiss = (0.05 * np.random.default_rng(0).standard_normal(8 * RATE)).astype(np.float32)
    for transcript in real.transcribe([*quiet, hiss, np.zeros(8 * RATE, np.float32)]):
        assert transcript.no_speech
        assert transcript.text == ""
        assert transcript.no_speech_reason is not None


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_language_is_read_off_the_speech_and_not_off_the_music_before_it(
    real: WhisperxTranscriber, samples: dict[str, Any], language: str
) -> None:
    spoken = [clip.samples for clip in samples.values() if clip.end == "done" and clip.language == language]
    music = max(
        (clip.samples for clip in samples.values() if clip.end == "no_speech"), key=lambda clip: np.abs(clip).max()
    )
    (transcript,) = real.transcribe([np.concatenate([np.tile(music, 2)[: 31 * RATE], min(spoken, key=len)])])
    assert transcript.language == language
    assert transcript.segments[0].start > 28
