"""The gate: drops text that Whisper invents. Whisper also writes fluent text for music and silence.

The gate checks each window by the values that Whisper returns with its text. A clip has no speech if no window passes.
The rules for log-probability, no-speech probability and compression are Whisper's own (Radford et al. 2022, section
4.5). WhisperX and faster-whisper's batched mode do not apply them.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

MIN_SPEECH_S = 0.5  # a clip with less speech holds a click, a breath or one shouted syllable
NO_SPEECH_PROB = 0.6  # with a higher value and an uncertain text, the window is not speech
UNCERTAIN_LOGPROB = -1.0  # mean per token; a text with a lower value is uncertain
MAX_COMPRESSION = 2.4  # a text with a higher ratio repeats itself
DOUBTFUL_LOGPROB = -0.4  # a phantom phrase with a lower value is dropped; real speech has about -0.1
DOUBTFUL_NO_SPEECH_PROB = 0.3

# The reasons why a clip has no transcript. The key is recorded; the sentence is for people.
REASONS = {
    "no-speech-found": f"The voice activity detector found less than {MIN_SPEECH_S} s of speech.",
    "no-words": "The speech model found no words.",
    "not-speech": "The speech model finds that this is probably not speech, and it is unsure of the text.",
    "repetition": "The text repeats itself, which is typical of invented text.",
    "phantom-phrase": "The text is a phrase that the speech model often invents when nobody speaks.",
}

# Phrases that Whisper writes for music and silence, from its training on subtitles. The whole text must match.
_PHANTOMS = re.compile(
    r"(thank you( (so|very) much)?( for (watching|listening|viewing)( (this|my|the) video)?)?"
    r"|thanks( a lot)?( for (watching|listening|viewing))?"
    r"|(please )?(like and )?subscribe( to (my|the|our) channel)?( for more videos)?"
    r"|(i'?ll )?see you( (guys )?(in the )?next (time|video|one))?|bye( bye)*|you|okay|oh|so|hmm+|mm+|uh|ah+"
    r"|(sub)?(title[sd]|caption(s|ed)) by .*|(transcribed|transcription|translation) by .*|www\.\S+"
    r"|(background |upbeat |soft |dramatic )?music( playing)?|applause|silence|blank audio"
    r"|untertitel (von|der|im) .*|sous-titres .*|subt[íi]tulos .*|sottotitoli .*|legendas .*)"
)


@dataclass(frozen=True)
class Quality:
    """Whisper's values for the text of one window."""

    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float


def compression_ratio(text: str) -> float:
    """The size of the text divided by its size under zlib, as Whisper computes it."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def reject(text: str, quality: Quality) -> str | None:
    """Return the reason (a key of REASONS) to drop a window with this text, or None to keep the window."""
    if not re.search(r"\w", text):
        return "no-words"
    if quality.no_speech_prob > NO_SPEECH_PROB and quality.avg_logprob < UNCERTAIN_LOGPROB:
        return "not-speech"
    if quality.compression_ratio > MAX_COMPRESSION:
        return "repetition"
    doubtful = quality.avg_logprob < DOUBTFUL_LOGPROB or quality.no_speech_prob > DOUBTFUL_NO_SPEECH_PROB
    if doubtful and is_phantom(text):
        return "phantom-phrase"
    return None


def is_phantom(text: str) -> bool:
    """Whether every sentence of the text is a known phantom phrase; ignores case, brackets and punctuation."""
    sentences = [re.sub(r"[^\w'. ]", " ", part) for part in re.split(r"[.!?,♪\n]+(?:\s|$)", text.lower())]
    cleaned = [" ".join(sentence.split()).strip(".") for sentence in sentences]
    return any(cleaned) and all(_PHANTOMS.fullmatch(sentence) for sentence in cleaned if sentence)
