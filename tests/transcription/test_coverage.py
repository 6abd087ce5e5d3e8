"""Speech without text is found and taken out; a window is cut in a pause."""

from __future__ import annotations

import pytest

from transcription.coverage import coverage, halves, split_off
from transcription.decoded import Piece
from transcription.transcript import Window

WINDOW = Window(10.0, 30.0, ((10.2, 16.0), (17.0, 24.0), (25.0, 29.8)))


def text(*spans: tuple[float, float]) -> list[Piece]:
    return [Piece(start, end, "words") for start, end in spans]


@pytest.mark.parametrize(
    ("pieces", "covered"),
    [
        (text((0.0, 20.0)), 1.0),
        (text(), 0.0),
        (text((0.0, 6.0)), 5.8 / 17.6),
        (text((0.0, 6.0), (7.0, 14.0)), 12.8 / 17.6),
    ],
)
def test_coverage_is_the_part_of_the_speech_within_the_times_of_the_text(pieces: list[Piece], covered: float) -> None:
    assert coverage(WINDOW, pieces) == pytest.approx(covered)


def test_a_text_that_ends_early_leaves_a_window_of_its_own() -> None:
    rest, parts = split_off(WINDOW, text((0.0, 9.0)))
    assert parts == [Window(18.8, 30.0, ((19.0, 24.0), (25.0, 29.8)))]
    assert rest.spans == ((10.2, 16.0), (17.0, 19.0))
    assert coverage(rest, text((0.0, 9.0))) == 1.0


def test_speech_that_the_text_skips_in_the_middle_is_its_own_window() -> None:
    rest, parts = split_off(WINDOW, text((0.0, 6.0), (15.0, 20.0)))
    assert parts == [Window(16.8, 24.0, ((17.0, 24.0),))]
    assert rest.spans == ((10.2, 16.0), (25.0, 29.8))


def test_two_skipped_stretches_with_text_between_them_are_two_windows() -> None:
    _, parts = split_off(WINDOW, text((7.0, 14.0)))
    assert [part.spans for part in parts] == [((10.2, 16.0),), ((25.0, 29.8),)]


def test_tenths_of_a_second_are_not_missing() -> None:
    assert split_off(WINDOW, text((0.5, 19.4))) == (WINDOW, [])


def test_a_window_is_cut_in_the_pause_nearest_to_its_middle() -> None:
    assert halves(WINDOW) == [
        Window(10.0, 16.5, ((10.2, 16.0),)),
        Window(16.5, 30.0, ((17.0, 24.0), (25.0, 29.8))),
    ]


def test_without_a_pause_near_it_the_middle_itself_is_the_cut() -> None:
    one, two = halves(Window(0.0, 20.0, ((0.0, 20.0),)))
    assert (one.end, two.start) == (10.0, 10.0)
    one, two = halves(Window(0.0, 20.0, ((0.0, 1.0), (2.0, 20.0))))
    assert one.spans == ((0.0, 1.0), (2.0, 10.0))
    assert two.spans == ((10.0, 20.0),)


def test_a_short_window_is_not_cut() -> None:
    assert halves(Window(0.0, 3.0, ((0.1, 2.9),))) == []
