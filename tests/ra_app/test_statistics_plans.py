"""Plans: the smallest number of clips whose expected interval is short enough, before and during a study."""

from __future__ import annotations

import pytest

from app.statistics.planning import Group, expected_groups, plan_precision, plan_recall
from app.statistics.proportions import wilson

BEFORE = expected_groups(100_000, 6000, prevalence=0.06, recall=0.82)
BY_SCORE = [Group(6000, True, 0.82), Group(4000, False, 0.12), Group(10_000, False, 0.03), Group(80_000, False, 0.002)]


def half_width(share: float, clips: int) -> float:
    low, high = wilson(share, clips)
    return (high - low) / 2


@pytest.mark.parametrize(("wished", "share"), [(0.05, 0.82), (0.02, 0.5), (0.1, 1.0)])
def test_a_plan_for_precision_is_the_smallest_that_is_enough(wished, share):
    plan = plan_precision(wished, share)
    assert half_width(share, plan.review) <= wished < half_width(share, plan.review - 1)
    assert plan.half_width == half_width(share, plan.review)


def test_few_flagged_clips_need_fewer_reviews_and_those_done_count():
    endless, of_600 = plan_precision(0.05, 0.82), plan_precision(0.05, 0.82, 600)
    assert of_600.review < endless.review
    assert plan_precision(0.05, 0.82, 600, reviewed=100).more == of_600.review - 100
    assert plan_precision(0.05, 0.82, 600, reviewed=500).more == 0
    assert plan_precision(0.001, 0.82, 600).review <= 600


def test_what_was_assumed_is_in_the_groups():
    flagged, others = BEFORE
    assert flagged.size * flagged.share == pytest.approx(100_000 * 0.06 * 0.82)
    assert others.size * others.share == pytest.approx(100_000 * 0.06 * 0.18)


def test_a_shorter_interval_of_recall_needs_more_clips_and_strata_by_score_fewer():
    wide, narrow, by_score = (plan_recall(wished, groups) for wished, groups in
                              ((0.1, BEFORE), (0.05, BEFORE), (0.05, BY_SCORE)))  # fmt: skip
    assert wide.review < narrow.review
    assert by_score.review < narrow.review
    for plan, wished in ((wide, 0.1), (narrow, 0.05), (by_score, 0.05)):
        assert 0.9 * wished < plan.half_width <= wished
        assert sum(plan.by_group) == plan.review == plan.more


def test_a_plan_during_the_study_keeps_what_was_reviewed_and_believes_the_counts():
    under_way = [Group(6000, True, 0.82, 500, 410), Group(94_000, False, 0.0115, 800, 9)]
    plan = plan_recall(0.05, under_way)
    assert plan.by_group[0] >= 500
    assert plan.more == plan.review - 1300
    rarer = [under_way[0], Group(94_000, False, 0.0115, 800, 2)]
    assert plan_recall(0.05, rarer).by_group != plan.by_group


def test_a_wish_that_only_all_clips_meet_plans_all_clips():
    plan = plan_recall(0.0001, [Group(50, True, 0.8), Group(500, False, 0.02)])
    assert plan.by_group == (50, 500)
    assert plan.half_width == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ([Group(10, True, 0.5)], "needs flagged and unflagged clips"),
        ([Group(10, False, 0.5)], "needs flagged and unflagged clips"),
        ([Group(10, True, 0), Group(10, False, 0.5)], "no flagged clip is expected"),
    ],
)
def test_recall_that_cannot_be_planned_is_refused(groups, problem):
    with pytest.raises(ValueError, match=problem):
        plan_recall(0.05, groups)


@pytest.mark.parametrize("wished", [0, 0.5, -1, float("nan")])
def test_a_half_width_that_cannot_be_is_refused(wished):
    with pytest.raises(ValueError, match="cannot be planned"):
        plan_precision(wished, 0.5)
    with pytest.raises(ValueError, match="cannot be planned"):
        plan_recall(wished, BEFORE)


def test_assumptions_that_contradict_one_another_are_refused():
    with pytest.raises(ValueError, match="more than 100 flagged"):
        expected_groups(10_000, 100, prevalence=0.06, recall=0.82)
    with pytest.raises(ValueError, match="not possible"):
        expected_groups(100, 100, prevalence=0.06, recall=0.82)
    with pytest.raises(ValueError, match="from 0 to 1"):
        Group(10, True, 1.5)
    with pytest.raises(ValueError, match="must rise"):
        Group(10, True, 0.5, reviewed=3, positive=4)
