"""A speaker who repeats, or a decoder in a loop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from transcription.decoded import Decoded, Piece
from transcription.repeats import as_the_sound, settle, sound_repeats

Features = npt.NDArray[np.float32]
CHANT = "we want bread " * 8


def said(text: str, *, avg_logprob: float = -0.1) -> Decoded:
    tokens = len(text.split())
    return Decoded(pieces=(Piece(0.0, 10.0, text),), tokens=tokens, avg_logprob=avg_logprob, no_speech_prob=0.0)


def noise(seconds: float, seed: int = 0) -> Features:
    return np.random.default_rng(seed).standard_normal((80, int(seconds * 100))).astype(np.float32)


def test_a_looped_sound_repeats_and_noise_does_not() -> None:
    assert sound_repeats(np.tile(noise(2.5), (1, 4)))
    assert sound_repeats(np.tile(noise(3), (1, 3))[:, :800])
    assert not sound_repeats(noise(10))
    assert not sound_repeats(np.zeros((80, 1000), np.float32))
    assert not sound_repeats(noise(0.3))


def test_a_looped_recording_keeps_its_text_unless_nobody_can_say_so_much() -> None:
    looped = np.tile(noise(2.5), (1, 4))
    assert as_the_sound(said(CHANT), 10.0, looped)
    assert not as_the_sound(said(CHANT), 10.0, noise(10))
    assert not as_the_sound(said("la " * 200), 3.0, looped)


def test_a_crowd_that_chants_keeps_its_text_with_a_mark() -> None:
    settled = settle(said(CHANT), said("we want bread, we wants bread, wee want bred"), 10.0)
    assert settled.decoded.text == CHANT
    assert settled.repeats
    assert not settled.looped


def test_words_that_a_loop_has_displaced_come_back() -> None:
    other = said("I will come for you tonight and nobody will find your little dog")
    settled = settle(said("I will " * 30), other, 10.0)
    assert settled.decoded is other
    assert settled.way == "no_repeats"
    assert not settled.repeats


def test_other_words_that_are_only_forced_do_not_replace_a_chant() -> None:
    forced = said("we want bread then four green cats walk over seven hills", avg_logprob=-0.9)
    assert settle(said(CHANT), forced, 10.0).decoded.text == CHANT


@pytest.mark.parametrize(("other", "looped"), [("la la la", False), ("la " * 200, True)])
def test_more_words_than_anybody_can_say_are_a_loop(other: str, looped: bool) -> None:
    settled = settle(said("la " * 200), said(other), 3.0)
    assert settled.decoded.text == other
    assert settled.looped is looped
    assert settled.repeats
