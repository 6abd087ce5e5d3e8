"""Which text counts as speech, and the reasons for refusals."""

from __future__ import annotations

import pytest

from transcription.gate import REASONS, Quality, compression_ratio, is_phantom, reject

SURE = Quality(avg_logprob=-0.1, no_speech_prob=0.02, compression_ratio=1.4)
UNSURE = Quality(avg_logprob=-0.9, no_speech_prob=0.4, compression_ratio=0.9)
NOISE = Quality(avg_logprob=-1.4, no_speech_prob=0.8, compression_ratio=0.9)


@pytest.mark.parametrize(
    ("text", "quality", "reason"),
    [
        ("We meet at noon.", SURE, None),
        ("We meet at noon.", UNSURE, None),
        ("We meet at noon.", NOISE, "not-speech"),
        ("We meet at noon.", Quality(-1.4, 0.1, 1.0), None),  # mumbled, but Whisper takes it for speech
        ("We meet at noon.", Quality(-0.2, 0.9, 1.0), None),  # clear text outweighs the no-speech token
        ("la la la", Quality(-0.1, 0.0, 2.5), "repetition"),
        ("la la la", Quality(-0.1, 0.0, 2.4), None),
        ("", SURE, "no-words"),
        (" ... \u266a ", SURE, "no-words"),
        ("Thanks for watching!", UNSURE, "phantom-phrase"),
        ("Thanks for watching!", SURE, None),  # people do say so
        ("Thank you.", Quality(-0.1, 0.5, 1.0), "phantom-phrase"),
        ("Thank you for the soup.", UNSURE, None),
    ],
)
def test_a_window_is_judged_by_what_whisper_says_about_it(text: str, quality: Quality, reason: str | None) -> None:
    assert reject(text, quality) == reason
    assert reason is None or reason in REASONS


@pytest.mark.parametrize(
    "text",
    [
        "Thanks for watching!", "Thank you for watching.", "Thank you so much for watching!", "Thank you.", "you",
        "Please subscribe to my channel.", "See you next time.", "Bye. Bye.", "[Music]", "\u266a", "(upbeat music)",
        "Subtitles by the Amara.org community", "Untertitel der Amara.org-Community", "Thank you. Thank you. Bye.",
    ],
)  # fmt: skip
def test_known_inventions_are_recognised(text: str) -> None:
    assert is_phantom(text) or text == "\u266a"  # signs without words are "no-words"


@pytest.mark.parametrize("text", ["Thank you, I will kill you.", "You are next.", "Bye bye birdie.", "So I went."])
def test_words_that_mean_something_are_not_taken_for_inventions(text: str) -> None:
    assert not is_phantom(text)


def test_the_compression_ratio_is_whispers() -> None:
    assert compression_ratio("We meet at noon, near the old mill.") < 1.2
    assert compression_ratio("no, " * 60) > 2.4
