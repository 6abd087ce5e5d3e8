"""Is it speech at all? Whisper writes fluent text for music and silence; this is where such text is stopped.

The gate judges each window by the values that Whisper gives with it; a clip has no speech when no window passes. The
rules for log-probability, no-speech probability and compression are Whisper's own (Radford et al. 2022, section 4.5),
which WhisperX and faster-whisper's batched path never apply.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

MIN_SPEECH_S = 0.5  # less in a whole clip is a click, a breath or one shouted syllable
NO_SPEECH_PROB = 0.6  # above it, and with an uncertain text, the window is not speech
UNCERTAIN_LOGPROB = -1.0  # mean per token
MAX_COMPRESSION = 2.4  # text that shrinks further repeats itself
DOUBTFUL_LOGPROB = -0.4  # a phantom phrase needs to be heard better than this; real speech lies around -0.1
DOUBTFUL_NO_SPEECH_PROB = 0.3

# Why a clip has no transcript; the key is recorded, the sentence is for people.
REASONS = {
    "no-speech-found": f"The voice activity detector found less than {MIN_SPEECH_S} s of speech.",
    "no-words": "The speech model heard no words.",
    "not-speech": "The speech model takes it for something other than speech and is unsure of its text.",
    "repetition": "The text repeats itself, as invented text does.",
    "phantom-phrase": "The text is one that the speech model invents when nobody speaks.",
}

# What Whisper writes over music and silence, from the subtitles that it learnt from. Only a window's whole text counts.
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
    """What Whisper says about one window's text."""

    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float


def compression_ratio(text: str) -> float:
    """Bytes of the text over its bytes under zlib, as Whisper computes it."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def reject(text: str, quality: Quality) -> str | None:
    """Name the reason (a key of REASONS) to drop a window with this text, or None to keep it."""
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
    """True when every sentence of the text is a known invention, whatever its case, brackets and punctuation."""
    sentences = [re.sub(r"[^\w'. ]", " ", part) for part in re.split(r"[.!?,♪\n]+(?:\s|$)", text.lower())]
    cleaned = [" ".join(sentence.split()).strip(".") for sentence in sentences]
    return any(cleaned) and all(_PHANTOMS.fullmatch(sentence) for sentence in cleaned if sentence)
