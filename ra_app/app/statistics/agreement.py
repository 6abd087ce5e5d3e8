"""Agreement of two or more coders on one label: percent, Krippendorff's alpha, Gwet's AC1 and positive agreement.

A clip is a mapping from coder to answer: True (the label applies), False (it does not), None or absent (not judged).
All four numbers depend only on how many coders judged a clip and how many of them said yes, so clips are counted by
these two. The intervals come from draws of the shares of these kinds of clips (see draws.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import comb

from app.statistics.draws import DRAWS, gammas, generator, middle
from app.statistics.estimate import Estimate, bounded, undefined

Clip = Mapping[str, bool | None]
Kinds = Mapping[tuple[int, int], int]  # (coders who judged the clip, coders who said yes): number of clips

PRIOR = 2.0  # clips' worth that is added to all kinds of clips, seen or not, for the interval: chosen by simulation

NO_PAIR = "no clip was judged by two coders"
ONE_ANSWER = "all answers are the same, so agreement by chance cannot be told apart"
NO_YES = "nobody gave this label to a clip that two coders judged"

_NOTHING = (0.0,) * 9  # the fields of _Sums


@dataclass(frozen=True)
class Agreement:
    """All measures for one label."""

    percent: Estimate
    alpha: Estimate
    ac1: Estimate
    positive: Estimate
    clips: int  # judged by at least two coders
    judgements: int


@dataclass(frozen=True)
class _Sums:
    """Sums over clips. Fields that end in 2 are over the clips with at least two judgements."""

    clips: float  # with at least one judgement
    shares: float  # of yes among the clip's judgements
    clips2: float
    agreeing2: float  # shares of agreeing pairs among the clip's pairs
    disagreeing2: float  # disagreeing pairs, each clip's divided by its judgements less one
    judgements2: float
    yes2: float
    yes_pairs2: float  # ordered pairs (a coder who said yes, another who said yes)
    pairs_of_yes2: float  # ordered pairs (a coder who said yes, any other)


def agreement(clips: Iterable[Clip], draws: int = DRAWS) -> Agreement:
    """Return the agreement of all coders on one label."""
    return agreement_of_kinds(kinds_of(clips), draws)


def kinds_of(clips: Iterable[Clip]) -> Kinds:
    """Count clips by the number of coders who judged them and of those who said yes."""
    found: Counter[tuple[int, int]] = Counter()
    for clip in clips:
        answers = [answer for answer in clip.values() if answer is not None]
        if answers:
            found[len(answers), sum(answers)] += 1
    return found


def agreement_of_kinds(kinds: Kinds, draws: int = DRAWS) -> Agreement:
    """Return the agreement for clips that are already counted."""
    counted = {kind: count for kind, count in sorted(kinds.items()) if count}
    sums = _Sums(*map(sum, zip(_NOTHING, *(_weighted(*one) for one in counted.items()), strict=True)))
    clips, judgements = round(sums.clips2), sum(kind[0] * count for kind, count in counted.items())
    if not clips:
        none = undefined(NO_PAIR)
        return Agreement(none, none, none, none, 0, judgements)
    drawn = _drawn(counted, draws)

    def estimate(value: float, low_high: list[float]) -> Estimate:
        return bounded(value, *middle(low_high), clips)

    both = 0 < sums.yes2 < sums.judgements2
    return Agreement(
        percent=estimate(_percent(sums), [_percent(one) for one in drawn]),
        alpha=estimate(_alpha(sums, 1), [_alpha(one, 0) for one in drawn]) if both else undefined(ONE_ANSWER, clips),
        ac1=estimate(_ac1(sums), [_ac1(one) for one in drawn]),
        positive=estimate(_positive(sums), [_positive(one) for one in drawn])
        if sums.yes2
        else undefined(NO_YES, clips),
        clips=clips,
        judgements=judgements,
    )


def _percent(sums: _Sums) -> float:
    """Return the mean over clips of the share of pairs of coders who agree (Fleiss 1971)."""
    return sums.agreeing2 / sums.clips2


def _alpha(sums: _Sums, less: int) -> float:
    """Return Krippendorff's alpha. `less` is 1 for a sample and 0 for a whole population."""
    chance = sums.yes2 * (sums.judgements2 - sums.yes2)
    return 1 - (sums.judgements2 - less) * sums.disagreeing2 / chance


def _ac1(sums: _Sums) -> float:
    """Return Gwet's AC1. The labels yes and no are known beforehand, so it is defined if only one was used, too."""
    yes = sums.shares / sums.clips
    chance = 2 * yes * (1 - yes)
    return (_percent(sums) - chance) / (1 - chance)


def _positive(sums: _Sums) -> float:
    """Return how probably another coder says yes where one did."""
    return sums.yes_pairs2 / sums.pairs_of_yes2


def _weighted(kind: tuple[int, int], weight: float) -> tuple[float, ...]:
    """Return what clips of this kind add to the sums, in the order of the fields of _Sums."""
    judged, yes = kind
    no = judged - yes
    if judged == 1:
        return (weight, weight * yes, 0, 0, 0, 0, 0, 0, 0)
    others = judged - 1
    agreeing = (yes * (yes - 1) + no * (no - 1)) / (judged * others)
    rest = (1, agreeing, yes * no / others, judged, yes, yes * (yes - 1), yes * others)
    return (weight, weight * yes / judged, *(weight * part for part in rest))


def _drawn(kinds: Kinds, draws: int) -> list[_Sums]:
    """Return sums for draws of the shares of all kinds of clips that were possible, seen or not."""
    random = generator("agreement")
    totals = [[0.0] * draws for _ in _NOTHING]
    for kind, shape in _shapes(kinds).items():
        drawn = gammas(random, shape, draws)
        for place, part in enumerate(_weighted(kind, 1)):
            if part:
                totals[place] = [total + part * one for total, one in zip(totals[place], drawn, strict=True)]
    return [_Sums(*parts) for parts in zip(*totals, strict=True)]


def _shapes(kinds: Kinds) -> dict[tuple[int, int], float]:
    """Return the clips of each kind plus the prior, which is shared out by how many coders the clips had."""
    by_judged: Counter[int] = Counter()
    for (judged, _), count in kinds.items():
        by_judged[judged] += count
    clips = sum(by_judged.values())
    return {
        (judged, yes): kinds.get((judged, yes), 0) + PRIOR * count / clips * prior_share(judged, yes)
        for judged, count in sorted(by_judged.items())
        for yes in range(judged + 1)
    }


def prior_share(judged: int, yes: int) -> float:
    """Return the share of clips with so many yes if each clip's chance of a yes has Jeffreys' prior, Beta(1/2, 1/2).

    Coders mostly agree: with equal shares instead, alpha of ten coders would be pulled down.
    """
    return comb(2 * yes, yes) * comb(2 * (judged - yes), judged - yes) / 4.0**judged
