"""The language of a window: that of its clip, unless the window is clearly in another.

Whisper guesses the language of every window from the encoder's output. A guess on one or two seconds of speech is often
wrong, so the window with the most speech decides for its clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# A window has its own language if it has so much speech, its guess is so probable, and the clip's so improbable.
MIN_SPEECH_S = 2.0
MIN_PROBABILITY = 0.7
MAX_OF_CLIPS = 0.1


@dataclass(frozen=True)
class Guess:
    """A language (ISO 639-1) and its probability, 0..1."""

    language: str
    probability: float


def language_of(probabilities: Mapping[str, float], clip: Guess | None, speech_s: float) -> Guess:
    """The language of a window with these probabilities; `clip` is that of its clip, or None for the leading window."""
    own = max(probabilities, key=lambda language: probabilities[language])
    guess = Guess(own, probabilities[own])
    if clip is None or own == clip.language:
        return guess
    other = probabilities.get(clip.language, 0.0)
    differs = speech_s >= MIN_SPEECH_S and guess.probability >= MIN_PROBABILITY and other <= MAX_OF_CLIPS
    return guess if differs else clip
