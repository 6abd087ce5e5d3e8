"""The intervals hold the true value in simulated studies, and the figures that the project assumed come out."""

from __future__ import annotations

import pytest

from bench.coverage import AT_RANDOM, BY_SCORE, agreement_figures, cases, recall_figures

ASSUMED = {"percent": 0.90, "alpha": 0.476, "ac1": 0.885}  # kappa, 0.503, is that of one pair


def test_agreement_at_6_percent_prevalence_and_5_percent_error_is_as_assumed():
    for name, (true, low, high) in agreement_figures(clips=1000, runs=200, seed=1).items():
        assert low < true < high
        assert low < ASSUMED.get(name, true) < high


def test_800_unflagged_clips_show_recall_in_the_assumed_ranges():
    at_random, by_score = (recall_figures(strata, runs=100, seed=1) for strata in (AT_RANDOM, BY_SCORE))
    assert at_random[0] == pytest.approx(0.82, abs=0.005)
    assert by_score[0] == pytest.approx(0.82, abs=0.005)
    assert at_random[1:3] == pytest.approx((0.72, 0.92), abs=0.035)
    assert by_score[1:3] == pytest.approx((0.74, 0.88), abs=0.035)


@pytest.mark.thorough
def test_every_interval_holds_the_true_value_as_often_as_it_says():
    missed = [f"{case.measure}, {case.study}: {case.coverage:.1f} %" for case in cases(200, 1) if not case.as_wanted]
    assert missed == []
