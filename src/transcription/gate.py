"""The gate: says of each window whether its text is speech, doubtful, or no speech. Whisper also writes text for music.

One rule over all values of a window. Each sign in the table adds points; a window with 3 or more is no speech, any
other one with a sign is doubtful, and one without a sign is speech.

| sign                                                         | reason             | points |
| the text has no letters or digits                            | no-words           | 3 |
| the text is a phrase that Whisper invents, and any other     | phantom-phrase     | 3 |
|   sign or a low certainty                                    |                    |   |
| the mean log-probability is below -1.0                       | unsure-text        | 2 |
| the mean log-probability is below -0.5                       | unsure-text        | 1 |
| the decoder ran in a loop, and no other decoding helped      | repetition         | 2 |
| the no-speech probability is above 0.6                       | not-speech         | 1 |
| the probability of the language is below 0.5                 | unclear-language   | 1 |
| less than 0.6 of the speech lies within the text's times     | uncovered-speech   | 1 |
| fewer than 1.0 tokens of text per second of speech           | few-words          | 1 |
| the text repeats itself, but the sound does not clearly      | repeated-text      | 1 |
| no more than 1.0 s of speech                                 | little-speech      | 1 |
| the level changes by less than 12.3 dB (`other_sound`), and  | other-sound        | 0 |
|   the first log-probability is below -0.25                   |                    |   |

The last sign has no points, because speech over loud music has it too, and must not be dropped for it. Its values are
those of two voices at once. Of 22 pairs of equally loud voices, 12 gave a text with more than 30 % wrong words compared
with either voice: 11 of the 12 had this sign or another one, and 9 of the other 10 pairs; of 31 windows of one voice
none had it. The first log-probability is that of the most probable tokens: over two voices, a beam finds texts that
Whisper is sure of, and that are no better.

Doubtful text is kept and judged, and is shown as doubtful. Text without speech is dropped, but recorded. The limits for
log-probability, no-speech probability and compression are Whisper's own (Radford et al. 2022, section 4.5), which
WhisperX and faster-whisper's batched mode do not apply.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from transcription.transcript import Finding

MIN_SPEECH_S = 0.5  # a clip with less speech holds a click, a breath or one shouted syllable
DROPPED_POINTS = 3
PHANTOM_LOGPROB = -0.4  # a phantom phrase with a lower value is dropped; real speech has about -0.1
PHANTOM_NO_SPEECH_PROB = 0.3

# Why a clip has no transcript, or a doubtful one. The key is recorded; the sentence is for people.
REASONS = {
    "no-speech-found": f"The voice activity detector found less than {MIN_SPEECH_S} s of speech.",
    "no-words": "The speech model found no words.",
    "phantom-phrase": "The text is a phrase that the speech model often invents when nobody speaks.",
    "unsure-text": "The speech model is unsure of the text.",
    "repetition": "The text repeats itself without end, which is typical of invented text.",
    "not-speech": "The speech model finds that this is probably not speech.",
    "unclear-language": "The speech model cannot tell the language.",
    "uncovered-speech": "Parts of the speech have no text.",
    "few-words": "The text is very short for so much speech.",
    "repeated-text": "The text repeats itself, perhaps more or less often than the speaker does.",
    "little-speech": "There is very little speech.",
    "other-sound": "Another voice or sound is about as loud as the speech, and the text may mix them up.",
    "dropped-window": "A part of the clip was taken for no speech, but may be speech.",
    "mixed-languages": "Parts of the clip are in different languages.",
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


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The gate's limits; each is a setting. The table above says what they do."""

    no_speech_prob: float = 0.6
    unsure_logprob: float = -0.5  # clear speech has about -0.15, sped-up speech -0.2; at -0.6 every third word is wrong
    very_unsure_logprob: float = -1.0
    compression: float = 2.4  # a text with a higher ratio repeats itself
    language_probability: float = 0.5
    coverage: float = 0.6
    tokens_per_s: float = 1.0  # clear speech has 3 to 5, played at 1.8 times the speed 7
    little_speech_s: float = 1.0
    # As Opus, 31 windows of one voice have 12.34 to 14 dB, 22 of two voices 10.7 to 12.4; a voice over music 6 to 11.
    other_sound_db: float = 12.3
    other_sound_logprob: float = -0.25  # one voice has -0.1 to -0.34


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that the gate knows of one window."""

    text: str
    avg_logprob: float
    no_speech_prob: float
    language_probability: float
    coverage: float  # 0..1, of the speech by the text
    tokens_per_s: float  # of speech
    speech_s: float
    looped: bool = False  # the decoder ran in a loop
    repeats: bool = False  # the text repeats itself, and the sound does not clearly do so
    first_logprob: float | None = None  # of the text of the most probable tokens, before any other decoding
    change_db: float | None = None  # of the level, see `other_sound`


def judge(evidence: Evidence, limits: Limits) -> tuple[Finding, tuple[str, ...]]:
    """The finding, and its reasons (keys of REASONS), the heaviest first."""
    signs = sorted(_signs(evidence, limits), key=lambda sign: -sign[1])
    points = sum(weight for _, weight in signs)
    reasons = tuple(reason for reason, _ in signs)
    if points >= DROPPED_POINTS:
        return "no_speech", reasons
    return ("doubtful", reasons) if signs else ("speech", ())


def _signs(evidence: Evidence, limits: Limits) -> Iterator[tuple[str, int]]:
    if not re.search(r"\w", evidence.text):
        yield "no-words", DROPPED_POINTS
        return
    others = list(_weak_signs(evidence, limits))
    unsure = evidence.avg_logprob < PHANTOM_LOGPROB or evidence.no_speech_prob > PHANTOM_NO_SPEECH_PROB
    if (others or unsure) and is_phantom(evidence.text):
        yield "phantom-phrase", DROPPED_POINTS
    yield from others
    if _has_other_sound(evidence, limits):
        yield "other-sound", 0


def _weak_signs(evidence: Evidence, limits: Limits) -> Iterator[tuple[str, int]]:
    if evidence.avg_logprob < limits.very_unsure_logprob:
        yield "unsure-text", 2
    elif evidence.avg_logprob < limits.unsure_logprob:
        yield "unsure-text", 1
    if evidence.looped:
        yield "repetition", 2
    if evidence.no_speech_prob > limits.no_speech_prob:
        yield "not-speech", 1
    if evidence.language_probability < limits.language_probability:
        yield "unclear-language", 1
    if evidence.coverage < limits.coverage:
        yield "uncovered-speech", 1
    if evidence.tokens_per_s < limits.tokens_per_s:
        yield "few-words", 1
    if evidence.repeats:
        yield "repeated-text", 1
    if evidence.speech_s <= limits.little_speech_s:
        yield "little-speech", 1


def _has_other_sound(evidence: Evidence, limits: Limits) -> bool:
    if evidence.change_db is None or evidence.first_logprob is None:
        return False
    return evidence.change_db < limits.other_sound_db and evidence.first_logprob < limits.other_sound_logprob


def compression_ratio(text: str) -> float:
    """The size of the text divided by its size under zlib, as Whisper computes it."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def is_phantom(text: str) -> bool:
    """Whether every sentence of the text is a known phantom phrase; ignores case, brackets and punctuation."""
    sentences = [re.sub(r"[^\w'. ]", " ", part) for part in re.split(r"[.!?,♪\n]+(?:\s|$)", text.lower())]
    cleaned = [" ".join(sentence.split()).strip(".") for sentence in sentences]
    return any(cleaned) and all(_PHANTOMS.fullmatch(sentence) for sentence in cleaned if sentence)
