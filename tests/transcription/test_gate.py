"""What counts as speech, as doubtful and as no speech, and why."""

from __future__ import annotations

from typing import Any

import pytest

from transcription.gate import REASONS, Evidence, Limits, compression_ratio, is_phantom, judge

SURE: dict[str, Any] = {
    "avg_logprob": -0.1, "no_speech_prob": 0.02, "language_probability": 0.99, "coverage": 1.0, "tokens_per_s": 4.0,
    "speech_s": 10.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "values", "finding", "reasons"),
    [
        ("We meet at noon.", {}, "speech", ()),
        ("We meet at noon.", {"avg_logprob": -0.6}, "doubtful", ("unsure-text",)),
        ("We meet at noon.", {"avg_logprob": -1.4}, "doubtful", ("unsure-text",)),  # mumbled, but taken for speech
        ("We meet at noon.", {"no_speech_prob": 0.9}, "doubtful", ("not-speech",)),
        ("We meet at noon.", {"avg_logprob": -1.4, "no_speech_prob": 0.8}, "no_speech", ("unsure-text", "not-speech")),
        # Real values of a text over music that passed when each sign was looked at alone.
        (
            "We meet at noon.",
            {"avg_logprob": -1.19, "language_probability": 0.26},
            "no_speech",
            ("unsure-text", "unclear-language"),
        ),
        ("We meet at noon.", {"language_probability": 0.3}, "doubtful", ("unclear-language",)),
        ("We meet at noon.", {"coverage": 0.4}, "doubtful", ("uncovered-speech",)),
        ("We meet at noon.", {"tokens_per_s": 0.4}, "doubtful", ("few-words",)),
        ("la la la", {"repeats": True}, "doubtful", ("repeated-text",)),
        ("la la la", {"looped": True, "repeats": True}, "no_speech", ("repetition", "repeated-text")),
        ("No!", {"speech_s": 0.7}, "doubtful", ("little-speech",)),
        # Two voices at once: no pauses, and a first text that is less sure than the one that was kept.
        ("We meet at noon.", {"change_db": 11.8, "first_logprob": -0.36}, "doubtful", ("other-sound",)),
        ("We meet at noon.", {"change_db": 13.4, "first_logprob": -0.36}, "speech", ()),  # one voice
        ("We meet at noon.", {"change_db": 8.3, "first_logprob": -0.2}, "speech", ()),  # clear speech over music
        (
            "We meet at noon.",
            {"avg_logprob": -0.6, "language_probability": 0.3, "change_db": 7.0, "first_logprob": -0.6},
            "doubtful",  # speech over loud music is not dropped for the music
            ("unsure-text", "unclear-language", "other-sound"),
        ),
        ("", {}, "no_speech", ("no-words",)),
        (" ... ♪ ", {}, "no_speech", ("no-words",)),
        ("Thanks for watching!", {"avg_logprob": -0.45}, "no_speech", ("phantom-phrase",)),
        ("Thanks for watching!", {}, "speech", ()),  # people do say so
        ("Thank you.", {"no_speech_prob": 0.5}, "no_speech", ("phantom-phrase",)),
        ("Thank you.", {"tokens_per_s": 0.3}, "no_speech", ("phantom-phrase", "few-words")),
        ("Thank you for the soup.", {"avg_logprob": -0.45}, "speech", ()),
    ],
)
def test_a_window_is_judged_by_all_its_values(
    text: str, values: dict[str, Any], finding: str, reasons: tuple[str, ...]
) -> None:
    assert judge(Evidence(text=text, **{**SURE, **values}), Limits()) == (finding, reasons)
    assert set(reasons) <= set(REASONS)


def test_every_limit_can_be_moved() -> None:
    unsure = Evidence(text="We meet at noon.", **{**SURE, "avg_logprob": -0.8})
    assert judge(unsure, Limits(unsure_logprob=-0.9)) == ("speech", ())


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
