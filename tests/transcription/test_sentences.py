"""Text is cut into sentences with useful times."""

from __future__ import annotations

import pytest

from transcription.sentences import MAX_CHARACTERS, split_sentences, timed_sentences

TEXT = "This is the first sentence. And this one is the second! Is there a third?"


def test_one_sentence_takes_all_of_the_time() -> None:
    assert timed_sentences("Hello there.", [(1.0, 3.0)]) == [(1.0, 3.0, "Hello there.")]


def test_sentences_share_the_time_by_their_length() -> None:
    (first, second) = timed_sentences("aaaa bbb. cccc ddd.", [(0.0, 10.0)])
    assert first == (0.0, 5.0, "aaaa bbb.")
    assert second == (5.0, 10.0, "cccc ddd.")


def test_a_boundary_near_a_pause_moves_into_it() -> None:
    (first, second) = timed_sentences("aaaa bbb. cccc ddd.", [(0.0, 4.5), (6.0, 11.0)])
    assert first[:2] == (0.0, 4.5)
    assert second[:2] == (6.0, 11.0)


def test_a_pause_within_a_sentence_does_not_cut_it() -> None:
    assert timed_sentences("One long sentence, with a pause.", [(0.0, 2.0), (4.0, 6.0)]) == [
        (0.0, 6.0, "One long sentence, with a pause.")
    ]


@pytest.mark.parametrize("spans", [[(0.3, 9.0)], [(0.3, 1.0), (1.5, 2.0), (2.5, 9.0)], [(5.0, 5.2)]])
def test_times_are_in_order_and_within_the_speech(spans: list[tuple[float, float]]) -> None:
    timed = timed_sentences(TEXT * 3, spans)
    assert timed[0][0] == spans[0][0]
    assert timed[-1][1] == spans[-1][1]
    previous = spans[0][0]
    for start, end, _ in timed:
        assert previous <= start <= end <= spans[-1][1]
        previous = end


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (TEXT, ["This is the first sentence.", "And this one is the second!", "Is there a third?"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("It costs 3.50 at most.", ["It costs 3.50 at most."]),
        ("\u4f60\u597d\u3002\u518d\u89c1\u3002", ["\u4f60\u597d\u3002", "\u518d\u89c1\u3002"]),
        ("no punctuation at all", ["no punctuation at all"]),
        ("", []),
    ],
)
def test_text_is_cut_at_the_ends_of_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("text", ["word " * 200, "clause of words, " * 60, "\u597d" * 500])
def test_a_long_sentence_is_cut_and_loses_nothing(text: str) -> None:
    parts = split_sentences(text)
    assert all(0 < len(part) <= MAX_CHARACTERS + 1 for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())
