"""The threshold at which a policy reaches a wished precision or recall on examples.

A threshold that was chosen on some examples looks better on these than on others. So its interval is given, too: the
examples are drawn anew many times, each time the threshold is chosen again, and 95 % of those thresholds lie within.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from errors import RefusedError
from policy_lab.figures import Confusion
from policy_lab.intervals import SEED, Interval
from policy_lab.measuring import Scored

Goal = Literal["precision", "recall"]
RESAMPLES = 500
Answers = Sequence[tuple[float, bool]]  # (score, violates)


@dataclass(frozen=True)
class Calibration:
    threshold: float
    confusion: Confusion  # at that threshold
    interval: Interval  # of the threshold
    reached: float  # the share of the drawings in which the goal could be reached at all, 0..1


def calibrate(scored: Sequence[Scored], goal: Goal, wished: float) -> Calibration:
    """Choose the threshold that reaches the wished value and gives up least of the other.

    Raises
    ------
    RefusedError
        No threshold reaches it, or the examples do not have both labels.
    """
    answers = [(item.score, item.example.violates) for item in scored]
    violating = sum(violates for _, violates in answers)
    if not 0 < violating < len(answers):
        missing = "violates the policy (label 1)" if not violating else "does not violate it (label 0)"
        raise RefusedError(f"no threshold can be chosen, because no example {missing}; add some")
    threshold = choose(answers, goal, wished)
    if threshold is None:
        raise RefusedError(_out_of_reach(answers, goal, wished))
    drawn = [chosen for chosen in _drawn_thresholds(answers, goal, wished) if chosen is not None]
    drawn.sort()
    interval = Interval(drawn[int(0.025 * (len(drawn) - 1))], drawn[round(0.975 * (len(drawn) - 1))])
    confusion = Confusion.count((violates, score >= threshold) for score, violates in answers)
    return Calibration(threshold, confusion, interval, len(drawn) / RESAMPLES)


def choose(answers: Answers, goal: Goal, wished: float) -> float | None:
    """Choose a threshold; None when the wished value cannot be reached.

    For a precision: of the thresholds that have it, the one with the most hits (and the highest of those). For a
    recall: the highest threshold that has it.
    """
    best: tuple[int, float] | None = None
    for low, high, hits, flagged, violating in _steps(answers):
        threshold = _between(low, high)
        if threshold is None or (hits / flagged if goal == "precision" else hits / violating) < wished:
            continue
        if goal == "recall":
            return threshold
        if best is None or hits > best[0]:
            best = (hits, threshold)
    return best[1] if best else None


def _steps(answers: Answers) -> Iterator[tuple[float, float, int, int, int]]:
    """Every way to divide the examples by a threshold, from the highest threshold to the lowest.

    Yields (low, high, hits, flagged, violating): a threshold above `low` and up to `high` flags `flagged` examples.
    """
    violating = sum(violates for _, violates in answers)
    ordered = sorted(answers, reverse=True)
    hits = 0
    for flagged, (score, violates) in enumerate(ordered, 1):
        hits += violates
        below = ordered[flagged][0] if flagged < len(ordered) else 0.0
        if below < score:
            yield below, score, hits, flagged, violating


def _between(low: float, high: float) -> float | None:
    """A short number above `low` and up to `high`, near their middle; None when it would not be between 0 and 1."""
    for digits in range(2, 18):
        threshold = round((low + high) / 2, digits)
        if low < threshold <= high and 0 < threshold < 1:
            return threshold
    return high if low < high < 1 else None


def _drawn_thresholds(answers: Answers, goal: Goal, wished: float) -> Iterator[float | None]:
    chance = random.Random(SEED)  # noqa: S311 -- statistics; the same examples give the same interval
    for _ in range(RESAMPLES):
        drawn = chance.choices(answers, k=len(answers))
        yield choose(drawn, goal, wished) if any(violates for _, violates in drawn) else None


def _out_of_reach(answers: Answers, goal: Goal, wished: float) -> str:
    shares = [
        (hits / flagged if goal == "precision" else hits / violating, threshold)
        for low, high, hits, flagged, violating in _steps(answers)
        if (threshold := _between(low, high)) is not None
    ]
    if not shares:
        return (
            f"no threshold gives a {goal} of {wished:g}, because the model gives every example the same extreme score"
        )
    best, threshold = max(shares)
    return (
        f"no threshold gives a {goal} of {wished:g} on these {len(answers)} examples: the best is {best:.3f}, at a "
        f"threshold of {threshold:g}; ask for less, or make the policy's words clearer"
    )
