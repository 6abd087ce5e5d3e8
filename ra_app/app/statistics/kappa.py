"""Cohen's kappa for each pair of coders on one label, and the mean over the pairs.

The interval of a pair comes from draws of the four shares of its table (see draws.py). Pairs that judged the same clips
are not independent: the spread of the mean is widened by how much the pairs go together (linearised variances).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

from app.statistics.agreement import NO_PAIR, PRIOR, Clip
from app.statistics.draws import DRAWS, gammas, generator, middle
from app.statistics.estimate import Estimate, bounded, undefined

Table = tuple[float, float, float, float]  # clips: both no, only the second yes, only the first yes, both yes
Pair = tuple[str, str]

ONE_ANSWER = "both coders gave only one and the same answer, so agreement by chance cannot be told apart"
NO_KAPPA = "no pair of coders has a kappa"


@dataclass(frozen=True)
class PairAgreement:
    """Two coders, the table of their answers, and their kappa."""

    first: str
    second: str
    table: tuple[int, int, int, int]
    kappa: Estimate


@dataclass(frozen=True)
class Kappas:
    """The kappas of all pairs, and their mean over the pairs that have one (each pair counts once)."""

    pairs: tuple[PairAgreement, ...]
    mean: Estimate


def kappas(clips: Iterable[Clip], draws: int = DRAWS) -> Kappas:
    """Return Cohen's kappa for each pair of coders that judged a clip together."""
    answers = Counter(_answers(clip) for clip in clips)
    tables = _tables(answers)
    if not tables:
        return Kappas((), undefined(NO_PAIR))
    pairs = []
    drawn: list[list[float]] = []
    for (first, second), table in sorted(tables.items()):
        kappa, values = _pair_kappa((first, second), table, draws)
        pairs.append(PairAgreement(first, second, table, kappa))
        drawn += [values] if kappa.value is not None else []
    return Kappas(tuple(pairs), _mean(pairs, drawn, answers))


def kappa_of(table: Table) -> float | None:
    """Return kappa, or None if both coders gave one and the same answer to all clips (or there is no clip)."""
    clips = sum(table)
    if not clips:
        return None
    chance = _chance(table)
    if chance >= clips * clips:
        return None
    return ((table[0] + table[3]) * clips - chance) / (clips * clips - chance)


def _answers(clip: Clip) -> tuple[tuple[str, bool], ...]:
    return tuple(sorted((coder, answer) for coder, answer in clip.items() if answer is not None))


def _tables(answers: Counter[tuple[tuple[str, bool], ...]]) -> dict[Pair, tuple[int, int, int, int]]:
    found: defaultdict[Pair, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for clip, count in answers.items():
        for (first, one), (second, other) in combinations(clip, 2):
            found[first, second][2 * one + other] += count
    return {pair: (cells[0], cells[1], cells[2], cells[3]) for pair, cells in found.items()}


def _chance(table: Table) -> float:
    """Return agreement by chance, times the square of the number of clips."""
    no_no, no_yes, yes_no, yes_yes = table
    return (no_no + no_yes) * (no_no + yes_no) + (yes_no + yes_yes) * (no_yes + yes_yes)


def _pair_kappa(pair: Pair, table: tuple[int, int, int, int], draws: int) -> tuple[Estimate, list[float]]:
    value = kappa_of(table)
    if value is None:
        return undefined(ONE_ANSWER, sum(table)), []
    random = generator("kappa", *pair)
    cells = [gammas(random, count + PRIOR, draws) for count in table]
    drawn = [kappa for shares in zip(*cells, strict=True) if (kappa := kappa_of(shares)) is not None]
    return bounded(value, *middle(drawn), sum(table)), drawn


def _mean(
    pairs: list[PairAgreement], drawn: list[list[float]], answers: Counter[tuple[tuple[str, bool], ...]]
) -> Estimate:
    values = {(pair.first, pair.second): pair for pair in pairs if pair.kappa.value is not None}
    if not values:
        return undefined(NO_KAPPA)
    value = sum(pair.kappa.value or 0.0 for pair in values.values()) / len(values)
    means = [sum(one) / len(values) for one in zip(*drawn, strict=False)]
    centre = sum(means) / len(means)
    together = sqrt(_spread_together({name: pair.table for name, pair in values.items()}, answers))
    clips = sum(count for clip, count in answers.items() if len(clip) > 1)
    return bounded(value, *middle([centre + together * (one - centre) for one in means]), clips)


def _spread_together(
    tables: dict[Pair, tuple[int, int, int, int]], answers: Counter[tuple[tuple[str, bool], ...]]
) -> float:
    """Return the variance of the mean over what it were if no two pairs shared a clip."""
    pulls = {pair: _pulls(table) for pair, table in tables.items()}
    joint = apart = 0.0
    for clip, count in answers.items():
        of_clip = [
            pulls[first, second][2 * one + other]
            for (first, one), (second, other) in combinations(clip, 2)
            if (first, second) in pulls
        ]
        joint += count * sum(of_clip) ** 2
        apart += count * sum(pull * pull for pull in of_clip)
    return joint / apart if apart else len(tables)


def _pulls(table: Table) -> Table:
    """Return by how much one more clip in each cell moves kappa, to first order (Fleiss, Cohen and Everitt 1969).

    The prior is added to the cells, because a table without disagreement would not move at all.
    """
    cells = [count + PRIOR for count in table]
    clips = sum(cells)
    no_no, no_yes, yes_no, yes_yes = (count / clips for count in cells)
    first, second = (no_no + no_yes, yes_no + yes_yes), (no_no + yes_no, no_yes + yes_yes)
    agreed, chance = no_no + yes_yes, first[0] * second[0] + first[1] * second[1]

    def pull(one: int, other: int) -> float:
        moved = second[one] + first[other] - 2 * chance
        return ((one == other) - agreed) / (1 - chance) / clips - (1 - agreed) * moved / (1 - chance) ** 2 / clips

    return pull(0, 0), pull(0, 1), pull(1, 0), pull(1, 1)
