"""Text is cut into sentences with useful times."""

from __future__ import annotations

import pytest

from transcription.sentences import MAX_CHARACTERS, split_sentences, timed_sentences

TEXT = "This is the first sentence. And this one is the second! Is there a third?"


def test_one_sentence_takes_all_of_the_time() -> None:
    assert timed_sentences([(1.0, 3.0, "Hello there.")]) == [(1.0, 3.0, "Hello there.")]


def test_sentences_within_one_piece_share_its_time_by_their_length() -> None:
    timed = timed_sentences([(0.0, 10.0, "aaaa bbb. cccc ddd.")])
    assert timed == [(0.0, 4.74, "aaaa bbb."), (5.26, 10.0, "cccc ddd.")]


def test_a_sentence_over_two_pieces_is_one() -> None:
    pieces = [(0.0, 2.0, "One long sentence, with"), (2.5, 4.0, "a pause."), (6.0, 7.0, "And more.")]
    assert timed_sentences(pieces) == [(0.0, 4.0, "One long sentence, with a pause."), (6.0, 7.0, "And more.")]


@pytest.mark.parametrize(
    "pieces",
    [
        [(0.3, 9.0, TEXT)],
        [(0.3, 1.0, TEXT), (1.5, 2.0, TEXT), (2.5, 9.0, TEXT)],
        [(5.0, 5.2, TEXT), (5.1, 5.1, TEXT)],  # Whisper's time stamps may overlap
    ],
)
def test_times_are_in_order_and_within_those_of_the_pieces(pieces: list[tuple[float, float, str]]) -> None:
    timed = timed_sentences(pieces)
    assert " ".join(text for *_, text in timed) == " ".join(text for *_, text in pieces)
    previous = pieces[0][0]
    for start, end, _ in timed:
        assert previous <= start <= end <= max(end for _, end, _ in pieces)
        previous = end


def test_no_text_no_sentences() -> None:
    assert timed_sentences([]) == []


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
