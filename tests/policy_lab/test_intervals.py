"""Intervals against values that others have published or computed."""

from __future__ import annotations

import pytest

from policy_lab import intervals
from policy_lab.intervals import Interval


def wilson(hits: int, of: int) -> Interval:
    found = intervals.wilson(hits, of)
    assert found is not None
    return found


def f1_interval(hits: int, false_alarms: int, misses: int, rest: int) -> Interval:
    found = intervals.f1_interval(hits, false_alarms, misses, rest)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_wilson_interval_has_the_published_values(hits, of, low, high):
    found = wilson(hits, of)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_the_wilson_interval_is_symmetric_and_stays_within_0_and_1():
    for of in (1, 2, 7, 50, 1000):
        for hits in range(of + 1):
            found, mirrored = wilson(hits, of), wilson(of - hits, of)
            assert 0 <= found.low <= hits / of <= found.high <= 1
            assert found.low == pytest.approx(1 - mirrored.high)


def test_nothing_counted_has_no_interval():
    assert intervals.wilson(0, 0) is None
    assert intervals.f1_interval(0, 0, 0, 30) is None


def test_the_interval_of_f1_is_the_same_each_time_and_holds_the_value():
    found = f1_interval(30, 10, 10, 50)
    assert found == f1_interval(30, 10, 10, 50)
    assert found.low < 60 / 80 < found.high


def test_the_interval_of_f1_has_about_the_width_of_the_delta_method():
    # F1 = 2h / D with D = 2h + w, for shares h of hits and w of mistakes. Its derivatives 2w/D^2 and -2h/D^2, with the
    # variances of a multinomial, give var(F1) = 4hw(h + w) / (n D^4).
    h, w, n = 0.3, 0.2, 100
    sd = (4 * h * w * (h + w) / (n * (2 * h + w) ** 4)) ** 0.5
    found = f1_interval(30, 10, 10, 50)
    assert found.high - found.low == pytest.approx(2 * 1.96 * sd, rel=0.1)


def test_more_examples_give_a_narrower_interval():
    few, many = f1_interval(3, 1, 1, 5), f1_interval(300, 100, 100, 500)
    assert many.high - many.low < (few.high - few.low) / 3
