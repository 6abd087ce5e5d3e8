"""Precision and recall of the classifier from a sample whose strata were reviewed with known probability.

A stratum is a group of clips in which each had the same chance to be reviewed: all flagged clips, say, and the
unflagged ones in three ranges of score. The share of each outcome in each stratum is drawn (see draws.py) and weighted
by the stratum's size. Clips that were reviewed are known: the spread covers only those that were not, unless the
estimate is meant for future clips, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from math import isfinite, sqrt

from app.statistics.draws import DRAWS, gammas, generator, middle
from app.statistics.estimate import Estimate, bounded, undefined

PRIOR = 0.5  # of an outcome, shared by all strata in which it can occur: so that many empty strata do not add up
NO_STRATA = "no clip was reviewed"
NO_FLAGGED = "no flagged clip was reviewed"
NO_UNFLAGGED = "no unflagged clip was reviewed"
NO_POSITIVE = "no reviewed clip has the label"


@dataclass(frozen=True)
class Stratum:
    """How many clips there are, and how many reviewed ones had each outcome (planned counts may be fractions)."""

    size: float
    hits: float = 0  # flagged, and the label applies
    false_alarms: float = 0  # flagged, and it does not
    misses: float = 0  # not flagged, but it applies
    rightly_left: float = 0  # not flagged, and it does not apply

    def __post_init__(self) -> None:
        if not all(isfinite(part) and part >= 0 for part in astuple(self)):
            raise ValueError(f"{self}: all counts must be 0 or more")
        if self.reviewed > self.size * (1 + 1e-9):
            raise ValueError(f"{self}: {self.reviewed} reviewed clips are more than the stratum has")
        if self.size and not self.reviewed:
            raise ValueError(f"{self}: no clip of this stratum was reviewed, so nothing is known of it")

    @property
    def outcomes(self) -> tuple[float, float, float, float]:
        return self.hits, self.false_alarms, self.misses, self.rightly_left

    @property
    def reviewed(self) -> float:
        return sum(self.outcomes)

    @property
    def possible(self) -> tuple[bool, bool, bool, bool]:
        """Which outcomes can occur: a stratum with no reviewed flagged clip is taken to have none, and so on."""
        flagged, unflagged = self.hits + self.false_alarms > 0, self.misses + self.rightly_left > 0
        return flagged, flagged, unflagged, unflagged


@dataclass(frozen=True)
class Reviewed:
    """One reviewed clip."""

    flagged: bool
    positive: bool  # the label applies, according to people
    probability: float  # with which the clip was drawn for review


@dataclass(frozen=True)
class Accuracy:
    """The classifier against people for one policy."""

    precision: Estimate
    recall: Estimate
    prevalence: Estimate  # share of clips to which the label applies


def strata_of(clips: Iterable[Reviewed]) -> list[Stratum]:
    """Group reviewed clips by flag and probability. A stratum's size is its reviewed clips over their probability.

    Raises:
        ValueError: a probability is not above 0 and at most 1.
    """
    counts: defaultdict[tuple[bool, float], list[int]] = defaultdict(lambda: [0, 0])
    for clip in clips:
        if not 0 < clip.probability <= 1:
            raise ValueError(f"{clip}: the probability must be above 0 and at most 1")
        counts[clip.flagged, clip.probability][clip.positive] += 1
    return [
        Stratum(sum(found) / chance, found[1], found[0])
        if flagged
        else Stratum(sum(found) / chance, 0, 0, *found[::-1])
        for (flagged, chance), found in sorted(counts.items())
    ]


def accuracy(strata: Sequence[Stratum], *, future: bool = False, draws: int = DRAWS) -> Accuracy:
    """Return precision, recall and prevalence.

    Args:
        strata: disjoint groups that together hold all clips; empty ones are left out.
        future: the estimates are for clips like these, too. Otherwise they are for just these clips.
        draws: how many draws the intervals rest on.
    """
    used = sorted((stratum for stratum in strata if stratum.size), key=astuple)
    sums = [sum(parts) for parts in zip(*(stratum.outcomes for stratum in used), strict=True)]
    if not used:
        none = undefined(NO_STRATA)
        return Accuracy(none, none, none)
    hits, alarms, misses, left = sums
    observed = [
        sum(stratum.size * outcome / stratum.reviewed for stratum, outcome in zip(used, outcomes, strict=True))
        for outcomes in zip(*(stratum.outcomes for stratum in used), strict=True)
    ]
    drawn = _drawn(used, future, draws)
    every, flagged = round(sum(sums)), round(hits + alarms)

    def estimate(of: int, over: tuple[int, ...], under: tuple[int, ...]) -> Estimate:
        return bounded(
            _ratio(observed, over, under),
            *middle([_ratio(one, over, under) for one in drawn]),
            of,
        )

    recall = estimate(every, (0,), (0, 2)) if hits + misses else undefined(NO_POSITIVE, every)
    if not flagged:
        recall = undefined(NO_FLAGGED, every)
    elif misses + left == 0:
        recall = undefined(NO_UNFLAGGED, every)
    return Accuracy(
        precision=estimate(flagged, (0,), (0, 1)) if hits + alarms else undefined(NO_FLAGGED, every),
        recall=recall,
        prevalence=estimate(every, (0, 2), (0, 1, 2, 3)),
    )


def _ratio(sums: Sequence[float], over: tuple[int, ...], under: tuple[int, ...]) -> float:
    whole = sum(sums[place] for place in under)
    return sum(sums[place] for place in over) / whole if whole else 0.0


def _drawn(strata: Sequence[Stratum], future: bool, draws: int) -> list[tuple[float, ...]]:
    """Return, for each draw, the number of clips with each of the four outcomes."""
    random = generator("strata")
    holding = [sum(can) for can in zip(*(stratum.possible for stratum in strata), strict=True)]
    totals = [[0.0] * draws for _ in holding]
    for stratum in strata:
        spread = 1.0 if future else sqrt(max(0.0, 1 - stratum.reviewed / stratum.size))
        cells = {
            place: gammas(random, outcome + prior, draws) if spread else []
            for place, (outcome, prior) in enumerate(zip(stratum.outcomes, _priors(holding), strict=True))
            if stratum.possible[place]
        }
        wholes = [sum(parts) for parts in zip(*cells.values(), strict=True)]
        for place, cell in cells.items():
            seen = stratum.size * stratum.outcomes[place] / stratum.reviewed
            if not spread:
                totals[place] = [total + seen for total in totals[place]]
                continue
            fixed, scale = (1 - spread) * seen, spread * stratum.size
            totals[place] = [
                total + fixed + scale * part / whole
                for total, part, whole in zip(totals[place], cell, wholes, strict=True)
            ]
    return list(zip(*totals, strict=True))


def _priors(holding: Sequence[int]) -> list[float]:
    """Return the prior of each outcome in one stratum."""
    hits, alarms, misses, _ = holding
    return [PRIOR / max(hits, 1), PRIOR / max(alarms, 1), PRIOR / max(misses, 1), PRIOR]
