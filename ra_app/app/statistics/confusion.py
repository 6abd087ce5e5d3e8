"""The confusion matrix at a threshold, and precision and recall at each threshold, from reviewed clips with scores.

A clip is flagged at a threshold if its score is at least the threshold. Clips stand for as many as one over the
probability with which they were drawn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from app.statistics.estimate import Estimate
from app.statistics.strata import Stratum, accuracy

MOST_POINTS = 40  # of a curve: more cannot be told apart in a plot
DRAWS = 1000


@dataclass(frozen=True)
class Scored:
    """One reviewed clip with the classifier's score."""

    score: float
    positive: bool  # the label applies, according to people
    weight: float = 1.0  # one over the probability with which it was drawn
    stratum: str = ""  # clips of one stratum and one weight were drawn together

    def __post_init__(self) -> None:
        if not isfinite(self.score):
            raise ValueError(f"{self}: the score must be a number")
        if not (isfinite(self.weight) and self.weight >= 1):
            raise ValueError(f"{self}: the weight is one over a probability, so it must be 1 or more")


@dataclass(frozen=True)
class Matrix:
    """Clips by the classifier's answer and the people's: reviewed ones, and all that they stand for."""

    hits: int
    false_alarms: int
    misses: int
    rightly_left: int
    weighted: tuple[float, float, float, float]  # in the same order


@dataclass(frozen=True)
class Point:
    """The classifier at one threshold."""

    threshold: float
    precision: Estimate
    recall: Estimate


def matrix(clips: Iterable[Scored], threshold: float) -> Matrix:
    """Return the confusion matrix at the threshold."""
    counts, weighted = [0, 0, 0, 0], [0.0, 0.0, 0.0, 0.0]
    for clip in clips:
        place = _outcome(clip, threshold)
        counts[place] += 1
        weighted[place] += clip.weight
    return Matrix(counts[0], counts[1], counts[2], counts[3], (weighted[0], weighted[1], weighted[2], weighted[3]))


def curve(
    clips: Sequence[Scored],
    thresholds: Sequence[float] | None = None,
    *,
    future: bool = False,
    draws: int = DRAWS,
) -> list[Point]:
    """Return precision and recall at each threshold, lowest first; the band holds at each threshold by itself.

    Args:
        clips: the reviewed clips.
        thresholds: where to look; without them, up to 40 scores of the clips, evenly spaced by rank.
        future: as in strata.accuracy().
        draws: how many draws the band rests on.
    """
    cells: defaultdict[tuple[str, float], Counter[tuple[float, bool]]] = defaultdict(Counter)
    for clip in clips:
        cells[clip.stratum, clip.weight][clip.score, clip.positive] += 1
    looked_at = sorted(set(_spaced([clip.score for clip in clips]) if thresholds is None else thresholds))
    return [_point(threshold, cells, future, draws) for threshold in looked_at]


def _point(
    threshold: float, cells: dict[tuple[str, float], Counter[tuple[float, bool]]], future: bool, draws: int
) -> Point:
    strata = []
    for (_, weight), found in cells.items():
        counts = [0, 0, 0, 0]
        for (score, positive), count in found.items():
            counts[2 * (score < threshold) + (not positive)] += count
        strata.append(Stratum(weight * sum(counts), *counts))
    both = accuracy(strata, future=future, draws=draws)
    return Point(threshold, both.precision, both.recall)


def _outcome(clip: Scored, threshold: float) -> int:
    return 2 * (clip.score < threshold) + (not clip.positive)


def _spaced(scores: list[float]) -> list[float]:
    known = sorted(set(scores))
    if len(known) <= MOST_POINTS:
        return known
    return [known[round(place * (len(known) - 1) / (MOST_POINTS - 1))] for place in range(MOST_POINTS)]
