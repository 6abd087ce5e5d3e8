"""Shares, precision and recall from weighted samples, and the threshold curve."""

from __future__ import annotations

from dataclasses import astuple
from math import isclose, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from app.statistics import strata as module
from app.statistics.confusion import MOST_POINTS, Scored, curve, matrix
from app.statistics.proportions import NONE_REVIEWED, proportion, wilson
from app.statistics.strata import Reviewed, Stratum, accuracy, strata_of

FEW = 10  # draws: the estimate itself needs none
EXACT = 1e-9


@pytest.mark.parametrize(
    ("yes", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_limits_that_newcombe_published(yes, of, low, high):
    """Newcombe, Two-sided confidence intervals for the single proportion, Stat. Med. 17 (1998), method 3."""
    found = proportion(yes, of)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == yes / of


def test_a_share_of_nothing_is_not_defined_and_false_counts_are_refused():
    assert proportion(0, 0).reason == NONE_REVIEWED
    with pytest.raises(ValueError, match="5 of 3 clips"):
        proportion(5, 3)
    with pytest.raises(ValueError, match="does not exist"):
        wilson(1.5, 10)


# Samples

reviewed = st.builds(Reviewed, st.booleans(), st.booleans(), st.sampled_from([1.0, 0.5, 0.1, 0.01]))


@given(st.lists(reviewed, max_size=30))
def test_precision_and_recall_weigh_each_clip_by_one_over_its_probability(clips):
    found = accuracy(strata_of(clips), draws=FEW)

    def weight(flagged: bool, positive: bool) -> float:
        return sum(1 / clip.probability for clip in clips if (clip.flagged, clip.positive) == (flagged, positive))

    hits, alarms, misses, left = weight(True, True), weight(True, False), weight(False, True), weight(False, False)
    wanted = {
        "precision": hits / (hits + alarms) if hits + alarms else None,
        "recall": hits / (hits + misses) if hits + misses and hits + alarms and misses + left else None,
        "prevalence": (hits + misses) / (hits + alarms + misses + left) if clips else None,
    }
    for name, value in wanted.items():
        estimate = getattr(found, name)
        if value is None:
            assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
            assert estimate.reason
        else:
            assert isclose(estimate.value, value, abs_tol=EXACT)
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_clips_that_were_all_reviewed_are_known_unless_future_ones_are_meant():
    strata = [Stratum(60, 50, 10), Stratum(940, 0, 0, 11, 929)]
    known = accuracy(strata)
    assert (known.precision.low, known.precision.high) == pytest.approx((50 / 60, 50 / 60))
    assert (known.recall.low, known.recall.high) == pytest.approx((50 / 61, 50 / 61))
    future = accuracy(strata, future=True)
    assert (future.precision.low, future.precision.high) == pytest.approx(wilson(50 / 60, 60), abs=0.02)


def test_a_sample_without_a_missed_clip_does_not_show_that_none_was_missed():
    found = accuracy([Stratum(600, 492, 108), Stratum(99400, 0, 0, 0, 800)]).recall
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.62, abs=0.05)  # 2.5 of 800 clips, the upper limit, would be 310 of 99,400


def test_the_order_of_strata_changes_nothing():
    strata = [Stratum(600, 200, 100), Stratum(2000, 0, 0, 12, 188), Stratum(90000, 0, 0, 1, 499)]
    assert accuracy(strata) == accuracy(strata[::-1])


@pytest.mark.parametrize(
    ("strata", "reason"),
    [
        ([Stratum(10, 0, 0, 3, 7)], module.NO_FLAGGED),
        ([Stratum(10, 3, 7)], module.NO_UNFLAGGED),
        ([Stratum(10, 0, 10), Stratum(10, 0, 0, 0, 10)], module.NO_POSITIVE),
        ([Stratum(0)], module.NO_STRATA),
        ([], module.NO_STRATA),
    ],
)
def test_recall_says_why_it_is_not_defined(strata, reason):
    assert accuracy(strata, draws=FEW).recall.reason == reason


@pytest.mark.parametrize(
    ("counts", "problem"),
    [((10, 11), "more than the stratum has"), ((10,), "no clip of this stratum was reviewed"), ((10, -1), "0 or more"),
     ((nan, 1), "0 or more")],
)  # fmt: skip
def test_counts_that_cannot_be_are_refused(counts, problem):
    with pytest.raises(ValueError, match=problem):
        Stratum(*counts)


@pytest.mark.parametrize("probability", [0, -0.5, 1.5, nan])
def test_a_probability_that_cannot_be_is_refused(probability):
    with pytest.raises(ValueError, match="probability must be above 0"):
        strata_of([Reviewed(True, True, probability)])


# Thresholds

scored = st.builds(
    Scored,
    st.integers(0, 5).map(float),
    st.booleans(),
    st.sampled_from([1.0, 2.0, 50.0]),
    st.sampled_from(["", "low"]),
)


@given(st.lists(scored, min_size=2, max_size=30), st.integers(1, 5))
@settings(max_examples=50)
def test_matrix_and_curve_equal_those_of_scikit_learn(clips, threshold):
    truth, flagged = [clip.positive for clip in clips], [clip.score >= threshold for clip in clips]
    weights = [clip.weight for clip in clips]
    found = matrix(clips, threshold)
    (left, alarms), (misses, hits) = confusion_matrix(truth, flagged, labels=[False, True]).tolist()
    assert astuple(found)[:4] == (hits, alarms, misses, left)
    (left, alarms), (misses, hits) = confusion_matrix(truth, flagged, labels=[False, True], sample_weight=weights)
    assert found.weighted == pytest.approx((hits, alarms, misses, left), abs=EXACT)
    point = curve(clips, [threshold], draws=FEW)[0]
    if point.precision.value is not None:
        assert point.precision.value == pytest.approx(precision_score(truth, flagged, sample_weight=weights), abs=EXACT)
    else:
        assert not any(flagged)
    if point.recall.value is not None:
        assert point.recall.value == pytest.approx(recall_score(truth, flagged, sample_weight=weights), abs=EXACT)
    else:
        assert all(flagged) or not any(flagged) or not any(truth)


def test_a_curve_looks_at_few_thresholds_from_the_lowest_score_to_the_highest():
    clips = [Scored(score / 1000, score % 7 == 0) for score in range(1000)]
    points = curve(clips, draws=FEW)
    assert len(points) == MOST_POINTS
    assert (points[0].threshold, points[-1].threshold) == (0, 0.999)
    recalls = [point.recall.value or 0.0 for point in points[1:]]
    assert recalls == sorted(recalls, reverse=True)
    assert curve([]) == []


@pytest.mark.parametrize(("score", "weight", "problem"), [(nan, 1, "score must be a number"), (0, 0.5, "1 or more")])
def test_a_scored_clip_that_cannot_be_is_refused(score, weight, problem):
    with pytest.raises(ValueError, match=problem):
        Scored(score, True, weight)
