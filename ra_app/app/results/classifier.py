"""The classifier against people, for one policy: matrix, precision and recall, threshold curve, weeks, and the worst.

Intervals are for clips like these, too: the study's clips are a sample of those to come. Recall needs clips that were
not chosen because something flagged them. In a study without such clips it has a reason in place of a number, although
clips that another policy flagged may show some misses.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from app.results.reviewed import FLAGGED, Clip, Question, Verdict, sizes
from app.statistics.confusion import MOST_POINTS, Matrix, Point, Scored, curve
from app.statistics.estimate import Estimate, undefined
from app.statistics.strata import Accuracy, Stratum, accuracy

WORST = 20
MOST_WEEKS = 53
STEPS = 1000  # scores of the curve are counted in thousandths, so that a curve of many clips costs no more
CURVE_DRAWS = 300
WEEK_DRAWS = 500
NO_SAMPLE = "all reviewed clips are in the study because some policy flagged them, so missed clips are not known"
_NEVER = Verdict(version="", violates=False, score=0.0, threshold=1.0, at=None)  # type: ignore[arg-type]  # stands for “not flagged”


@dataclass(frozen=True, kw_only=True)
class Left:
    """Clips that people judged and that are in no number, by the reason."""

    ties: int
    undecided: int
    other_versions: int
    language: int  # not judged because of it
    no_verdict: int  # for another reason


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The numbers for a part of the clips, or for more of them."""

    name: str
    clips: int
    accuracy: Accuracy


@dataclass(frozen=True, kw_only=True)
class Week:
    monday: date
    precision: Estimate


@dataclass(frozen=True, kw_only=True)
class Results:
    clips: int
    left: Left
    versions: tuple[tuple[str, int], ...]  # of the policy, the one that judged last first, with clips
    version: str | None  # that is counted; None: all
    matrix: Matrix
    accuracy: Accuracy
    sampled: bool  # recall can be known
    threshold: float | None  # in force: that of the newest verdict
    thresholds: int  # how many there are
    curve: tuple[Point, ...]
    at: Point | None  # at the threshold that was asked for
    weeks: tuple[Week, ...]
    variants: tuple[Variant, ...]
    false_alarms: tuple[Clip, ...]  # the highest score first
    misses: tuple[Clip, ...]  # the lowest score first


class _Weights:
    """How many clips a clip stands for: see app/results/reviewed.py."""

    def __init__(self, question: Question, clips: Iterable[Clip]) -> None:
        answered = Counter((clip.stratum, clip.probability) for clip in clips)
        whole = sizes(question.study)
        self._of = {key: max(whole[key], count) / count / key[1] for key, count in answered.items()}

    def of(self, clip: Clip) -> float:
        return self._of[clip.stratum, clip.probability]


def results(question: Question, version: str | None, at: float | None) -> Results:
    """Return all numbers. `version` is one of the policy, `""` for all, None for that of the newest verdict."""
    every = list(question.clips())
    answered = [clip for clip in every if isinstance(clip.answer, bool)]
    weights = _Weights(question, answered)
    versions = _versions(answered)
    chosen = version if version is not None else versions[0][0] if versions else ""
    judged = [clip for clip in answered if clip.verdict is not None and chosen in {"", clip.verdict.version}]
    sampled = any(clip.stratum != FLAGGED for clip in judged)
    scored = [_scored(clip, clip.verdict, weights) for clip in judged if clip.verdict is not None]
    in_force = max(
        (clip.verdict for clip in judged if clip.verdict is not None), key=lambda each: each.at, default=None
    )
    threshold = in_force.threshold if in_force is not None else None
    return Results(
        clips=len(judged),
        left=_left(every, answered, judged),
        versions=versions,
        version=chosen or None,
        matrix=_matrix(judged, weights),
        accuracy=_accuracy(judged, weights, sampled=sampled),
        sampled=sampled,
        threshold=threshold,
        thresholds=len({clip.verdict.threshold for clip in judged if clip.verdict is not None}),
        curve=_curve(scored, threshold, sampled=sampled),
        at=_at(scored, at, threshold, sampled=sampled),
        weeks=tuple(_weeks(judged, weights)),
        variants=tuple(_variants(answered, judged, weights, sampled=sampled)),
        false_alarms=tuple(_worst(judged, flagged=True)),
        misses=tuple(_worst(judged, flagged=False)),
    )


def _versions(clips: Iterable[Clip]) -> tuple[tuple[str, int], ...]:
    counts: Counter[str] = Counter()
    last: dict[str, float] = {}
    for clip in clips:
        if clip.verdict is not None:
            counts[clip.verdict.version] += 1
            last[clip.verdict.version] = max(last.get(clip.verdict.version, 0.0), clip.verdict.at.timestamp())
    return tuple((name, counts[name]) for name in sorted(counts, key=lambda name: -last[name]))


def _left(every: Sequence[Clip], answered: Sequence[Clip], judged: Sequence[Clip]) -> Left:
    without = [clip for clip in answered if clip.verdict is None]
    language = sum(clip.not_judged == "language" for clip in without)
    return Left(
        ties=sum(clip.answer == "tie" for clip in every),
        undecided=sum(clip.answer == "undecided" for clip in every),
        other_versions=len(answered) - len(without) - len(judged),
        language=language,
        no_verdict=len(without) - language,
    )


def _outcome(clip: Clip) -> int:
    """Return the place of the clip in a matrix: hit, false alarm, miss, rightly left."""
    flagged = clip.verdict is not None and clip.verdict.violates
    return 2 * (not flagged) + (not clip.answer)


def _matrix(clips: Iterable[Clip], weights: _Weights) -> Matrix:
    counts, weighted = [0, 0, 0, 0], [0.0, 0.0, 0.0, 0.0]
    for clip in clips:
        counts[_outcome(clip)] += 1
        weighted[_outcome(clip)] += weights.of(clip)
    stands_for = (weighted[0], weighted[1], weighted[2], weighted[3])
    return Matrix(counts[0], counts[1], counts[2], counts[3], stands_for)


def _accuracy(clips: Iterable[Clip], weights: _Weights, *, sampled: bool, **draws: int) -> Accuracy:
    cells: defaultdict[tuple[str, float], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for clip in clips:
        cells[clip.stratum, weights.of(clip)][_outcome(clip)] += 1
    strata = [Stratum(weight * sum(counts), *counts) for (_, weight), counts in sorted(cells.items())]
    found = accuracy(strata, future=True, **draws)
    if sampled or found.recall.value is None:
        return found
    return replace(found, recall=_unknown(found.recall), prevalence=_unknown(found.prevalence))


def _unknown(estimate: Estimate) -> Estimate:
    return undefined(NO_SAMPLE, estimate.of)


def _scored(clip: Clip, verdict: Verdict, weights: _Weights) -> Scored:
    score = math.floor(verdict.score * STEPS) / STEPS
    return Scored(score, positive=clip.answer is True, weight=max(1.0, weights.of(clip)), stratum=clip.stratum)


def _curve(clips: Sequence[Scored], threshold: float | None, *, sampled: bool) -> tuple[Point, ...]:
    """Return the curve; without a sample of unflagged clips only where the classifier would flag fewer clips."""
    lowest = 0.0 if sampled or threshold is None else threshold
    scores = sorted({clip.score for clip in clips if clip.score >= lowest})
    every = max(1, math.ceil(len(scores) / MOST_POINTS))
    return tuple(
        _known(point, sampled=sampled) for point in curve(clips, scores[::every], future=True, draws=CURVE_DRAWS)
    )


def _at(clips: Sequence[Scored], at: float | None, threshold: float | None, *, sampled: bool) -> Point | None:
    if at is None or not clips:
        return None
    [point] = curve(clips, [math.ceil(at * STEPS - 1e-9) / STEPS], future=True)
    if not sampled and threshold is not None and at < threshold:
        return Point(at, _unknown(point.precision), _unknown(point.recall))
    return replace(_known(point, sampled=sampled), threshold=at)


def _known(point: Point, *, sampled: bool) -> Point:
    return point if sampled else replace(point, recall=_unknown(point.recall))


def _weeks(clips: Iterable[Clip], weights: _Weights) -> Iterable[Week]:
    by_week: defaultdict[date, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.week is not None:
            by_week[clip.week].append(clip)
    for monday in sorted(by_week)[-MOST_WEEKS:]:
        found = _accuracy(by_week[monday], weights, sampled=True, draws=WEEK_DRAWS)
        yield Week(monday=monday, precision=found.precision)


def _variants(
    answered: Sequence[Clip], judged: Sequence[Clip], weights: _Weights, *, sampled: bool
) -> Iterable[Variant]:
    unjudged = [replace(clip, verdict=_NEVER) for clip in answered if clip.verdict is None]
    parts = (
        ("All judged clips", judged),
        ("Without doubtful transcripts", [clip for clip in judged if not clip.doubtful]),
        ("Only doubtful transcripts", [clip for clip in judged if clip.doubtful]),
        ("With clips that were not judged, as not flagged", [*judged, *unjudged]),
    )
    for name, clips in parts:
        yield Variant(name=name, clips=len(clips), accuracy=_accuracy(clips, weights, sampled=sampled))


def _worst(clips: Iterable[Clip], *, flagged: bool) -> list[Clip]:
    wrong = [
        (clip.verdict.score, clip)
        for clip in clips
        if clip.verdict is not None and clip.verdict.violates == flagged and clip.answer is not flagged
    ]
    choose = heapq.nlargest if flagged else heapq.nsmallest
    return [clip for _, clip in choose(WORST, wrong, key=lambda one: (one[0], one[1].audio_id))]
