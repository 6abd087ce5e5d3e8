"""The threshold that is chosen, and when none can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import RefusedError
from policy_lab.calibration import calibrate, choose
from policy_lab.examples import Example
from policy_lab.figures import Confusion
from policy_lab.measuring import Scored

ANSWERS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30)


def scored(*answers: tuple[float, int]) -> list[Scored]:
    return [Scored(Example(f"t{line}", bool(label), line), score, False) for line, (score, label) in enumerate(answers)]


def counts(answers: list[tuple[float, bool]], threshold: float) -> Confusion:
    return Confusion.count((violates, score >= threshold) for score, violates in answers)


def test_a_recall_gets_the_highest_threshold_that_has_it():
    found = calibrate(scored((0.9, 1), (0.8, 0), (0.6, 1), (0.3, 0), (0.2, 1)), "recall", 0.6)
    assert 0.3 < found.threshold <= 0.6
    assert (found.confusion.hits, found.confusion.false_alarms, found.confusion.misses) == (2, 1, 1)


def test_a_precision_gets_the_threshold_with_the_most_hits():
    # Precision falls to 2/3 at 0.7 and rises to 4/5 at 0.5: the lower one has more hits.
    answers = scored((0.9, 1), (0.8, 1), (0.7, 0), (0.6, 1), (0.5, 1), (0.4, 0), (0.3, 0))
    found = calibrate(answers, "precision", 0.8)
    assert 0.4 < found.threshold <= 0.5
    assert found.confusion.precision.value == pytest.approx(0.8)
    assert found.confusion.recall.value == pytest.approx(1)


@given(ANSWERS, st.floats(0.01, 1))
def test_no_other_threshold_serves_better(answers, wished):
    violating = sum(violates for _, violates in answers)
    tried = {threshold: counts(answers, threshold) for threshold, _ in answers if 0 < threshold < 1}
    precision = choose(answers, "precision", wished)
    reaching = [found.hits for found in tried.values() if (found.precision.value or 0) >= wished]
    if precision is not None:
        assert counts(answers, precision).precision.value >= wished
        assert counts(answers, precision).hits >= max(reaching, default=0)
    else:
        assert reaching == []
    recall = choose(answers, "recall", wished) if violating else None
    if recall is not None:
        assert 0 < recall < 1
        assert counts(answers, recall).hits / violating >= wished
        assert all(
            t <= recall or found.hits / violating < wished or found == counts(answers, recall)
            for t, found in tried.items()
        )


def test_the_threshold_is_a_short_number_between_two_scores():
    assert calibrate(scored((0.9, 1), (0.1, 0)), "precision", 1).threshold == 0.5
    close = calibrate(scored((0.90001, 1), (0.9, 0)), "precision", 1).threshold
    assert 0.9 < close <= 0.90001
    assert len(str(close)) <= 9


def test_the_interval_of_a_threshold_is_wide_for_few_examples():
    few = scored((0.9, 1), (0.7, 1), (0.5, 0), (0.4, 1), (0.2, 0), (0.1, 0))
    narrow = calibrate(few * 40, "recall", 0.9).interval
    wide = calibrate(few, "recall", 0.9).interval
    assert wide == calibrate(few, "recall", 0.9).interval
    assert wide.high - wide.low > narrow.high - narrow.low


def test_a_precision_out_of_reach_is_refused_with_the_best_there_is():
    with pytest.raises(RefusedError, match=r"no threshold gives a precision of 0.9 on these 4 .* best is 0.667"):
        calibrate(scored((0.9, 0), (0.8, 1), (0.7, 1), (0.1, 0)), "precision", 0.9)


def test_a_recall_that_needs_a_threshold_of_0_is_refused():
    with pytest.raises(RefusedError, match=r"no threshold gives a recall of 1 .* best is 0.500"):
        calibrate(scored((0.9, 1), (0.0, 1), (0.0, 0)), "recall", 1)


def test_scores_of_exactly_1_can_be_flagged():
    assert 0.2 < calibrate(scored((1.0, 1), (0.2, 0)), "recall", 1).threshold < 1


@pytest.mark.parametrize(("label", "missing"), [(1, "does not violate"), (0, "violates the policy")])
def test_examples_of_one_label_cannot_choose_a_threshold(label, missing):
    with pytest.raises(RefusedError, match=missing):
        calibrate(scored((0.9, label), (0.1, label)), "precision", 0.9)
