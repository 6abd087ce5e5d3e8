"""A text that repeats itself: does the speaker repeat, or does the decoder run in a loop?

Chants, hooks and looped sounds are speech, and their text must stay. A decoder's loop is an error: Whisper writes the
same phrase again and again while the speaker says something else, or nobody speaks. Three signs tell them apart:

- A loop often has more words than anybody can say in that time.
- When a recording is looped, the sound repeats itself, too.
- The window is decoded a second time with repeated phrases forbidden. Over a loop, this finds words that the loop has
  displaced. Of a speaker who repeats, it finds the same words again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from transcription.decoded import FRAMES_PER_S, Decoded, Way

MAX_TOKENS_PER_S = 12.0  # of speech; speech at 1.8 times its speed has 7
NEW_WORDS = (4, 0.3)  # the second decoding found something else: so many new words, and such a part of its words
SIMILAR = 0.6  # two words are perhaps the same one, heard differently
LOGPROB_LOSS = 0.3  # a second decoding that is less certain by more than this is forced, not better
SHORTEST_PERIOD_S = 0.4
SAME_SOUND = 0.5  # correlation of the features with themselves one period later; of speech that does not repeat: 0.2


@dataclass(frozen=True)
class Settled:
    """The decoding to keep, and what to tell the gate about it."""

    decoded: Decoded
    way: Way
    looped: bool = False
    repeats: bool = False
    first_logprob: float | None = None  # of the greedy decoding, which came first


def as_the_sound(decoded: Decoded, speech_s: float, features: npt.NDArray[np.float32]) -> bool:
    """Whether a text that repeats itself is right because the sound of its window does so as well.

    `speech_s` are the seconds of speech in the window, `features` its log-mel features, shape (mels, frames).
    """
    return _can_be_said(decoded, speech_s) and sound_repeats(features)


def settle(plain: Decoded, forbidden: Decoded, speech_s: float) -> Settled:
    """Choose between the plain decoding, whose text repeats itself, and the one with repetitions forbidden.

    The sound of the window, with `speech_s` seconds of speech, does not repeat itself.
    """
    possible = _can_be_said(plain, speech_s)
    if _heard_more(plain, forbidden):
        return Settled(forbidden, "no_repeats")
    if possible:
        return Settled(plain, "plain", repeats=True)
    return Settled(forbidden, "no_repeats", looped=not _can_be_said(forbidden, speech_s), repeats=True)


def sound_repeats(features: npt.NDArray[np.float32]) -> bool:
    """Whether the sound of a window is the same again after some period of at most half of its length."""
    frames = features.shape[1]
    changes = features - features.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(changes, n=2 * frames, axis=1)
    agreement = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :frames].sum(axis=0)
    if agreement[0] <= 0:
        return False
    lags = np.arange(int(SHORTEST_PERIOD_S * FRAMES_PER_S), frames // 2 + 1)
    if not lags.size:
        return False
    # The sum over the frames that overlap, as a part of what it would be for equal frames.
    relative = agreement[lags] / (agreement[0] * (frames - lags) / frames)
    return bool(relative.max() >= SAME_SOUND)


def _heard_more(plain: Decoded, forbidden: Decoded) -> bool:
    before, after = _words(plain.text), _words(forbidden.text)
    new = {word for word in after if not get_close_matches(word, before, n=1, cutoff=SIMILAR)}
    certain = forbidden.avg_logprob >= plain.avg_logprob - LOGPROB_LOSS
    return certain and len(new) >= max(NEW_WORDS[0], NEW_WORDS[1] * len(after))


def _can_be_said(decoded: Decoded, speech_s: float) -> bool:
    return decoded.tokens <= MAX_TOKENS_PER_S * max(speech_s, 0.1)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
