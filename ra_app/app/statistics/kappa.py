"""Cohen's kappa for each pair of coders on one label, and the mean over the pairs.

The interval of a pair comes from draws of the four shares of its table, that of the mean from draws of the weights of
all clips (see draws.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from app.statistics.agreement import NO_PAIR, Clip
from app.statistics.draws import DRAWS, gammas, generator, middle
from app.statistics.estimate import Estimate, bounded, undefined
from app.statistics.proportions import Z

Table = tuple[float, float, float, float]  # clips: both no, only the second yes, only the first yes, both yes
Pair = tuple[str, str]
Answers = tuple[tuple[str, bool], ...]  # of one clip, by coder

PRIOR = (0.75, 0.25, 0.25, 0.75)  # clips added to a table for the interval: as agreement.py does for two coders
MOST_WORK = 3_000_000  # cells drawn for the mean: with many coders, there are as many ways to judge as clips
MOST_PAIR_DRAWS = 200_000  # for all pairs together; each pair has at least ENOUGH
FEWEST = 100  # draws, however much work they are
ENOUGH = 500  # with fewer draws than these, the limits come from their standard deviation, which needs fewer

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
    return kappas_of_answers(Counter(_answers(clip) for clip in clips), draws)


def kappas_of_answers(answers: Counter[Answers], draws: int = DRAWS) -> Kappas:
    """Return the kappas for clips that are already counted. The answers of a clip are ordered by coder."""
    tables = _tables(answers)
    if not tables:
        return Kappas((), undefined(NO_PAIR))
    pairs = []
    of_pair = max(min(draws, ENOUGH), min(draws, MOST_PAIR_DRAWS // len(tables)))
    for (first, second), table in sorted(tables.items()):
        pairs.append(PairAgreement(first, second, table, _pair_kappa((first, second), table, of_pair)))
    return Kappas(tuple(pairs), _mean(pairs, answers, draws))


def kappa_of(table: Table) -> float | None:
    """Return kappa, or None if both coders gave one and the same answer to all clips (or there is no clip)."""
    clips = sum(table)
    if not clips:
        return None
    chance = _chance(table)
    if chance >= clips * clips:
        return None
    return ((table[0] + table[3]) * clips - chance) / (clips * clips - chance)


def _answers(clip: Clip) -> Answers:
    return tuple(sorted((coder, answer) for coder, answer in clip.items() if answer is not None))


def _tables(answers: Counter[Answers]) -> dict[Pair, tuple[int, int, int, int]]:
    found: defaultdict[Pair, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for clip, count in answers.items():
        for (first, one), (second, other) in combinations(clip, 2):
            found[first, second][2 * one + other] += count
    return {pair: (cells[0], cells[1], cells[2], cells[3]) for pair, cells in found.items()}


def _chance(table: Table) -> float:
    """Return agreement by chance, times the square of the number of clips."""
    no_no, no_yes, yes_no, yes_yes = table
    return (no_no + no_yes) * (no_no + yes_no) + (yes_no + yes_yes) * (no_yes + yes_yes)


def _pair_kappa(pair: Pair, table: Table, draws: int) -> Estimate:
    value, clips = kappa_of(table), round(sum(table))
    if value is None:
        return undefined(ONE_ANSWER, clips)
    random = generator("kappa", *pair)
    cells = [gammas(random, count + prior, draws) for count, prior in zip(table, PRIOR, strict=True)]
    return bounded(value, *middle(_kappas(cells)), clips)


def _kappas(cells: Sequence[Sequence[float]]) -> list[float]:
    return [1.0 if (kappa := kappa_of(shares)) is None else kappa for shares in zip(*cells, strict=True)]


def _mean(pairs: Sequence[PairAgreement], answers: Counter[Answers], draws: int) -> Estimate:
    tables = {(pair.first, pair.second): pair.table for pair in pairs if pair.kappa.value is not None}
    if not tables:
        return undefined(NO_KAPPA)
    value = fmean(pair.kappa.value for pair in pairs if pair.kappa.value is not None)
    clips = sum(count for clip, count in answers.items() if len(clip) > 1)
    work = sum(len(clip) * (len(clip) - 1) // 2 for clip in answers)
    means = _drawn_means(tables, answers, clips, max(FEWEST, min(draws, MOST_WORK // work)))
    if len(means) >= min(draws, ENOUGH):
        return bounded(value, *middle(means), clips)
    half, centre = Z * stdev(means), fmean(means)
    return bounded(value, centre - half, min(centre + half, 1.0), clips)


def _drawn_means(tables: Mapping[Pair, Table], answers: Counter[Answers], clips: int, draws: int) -> list[float]:
    """Return draws of the mean. Each draw weighs the clips once for all pairs, because pairs share clips."""
    cells = {}
    for pair, table in tables.items():
        random = generator(
            "mean kappa, prior"
        )  # the same draws for all pairs: what is not known of one, is not of others
        cells[pair] = [gammas(random, prior * sum(table) / clips, draws) for prior in PRIOR]
    random = generator("mean kappa")
    for clip, count in sorted(answers.items()):
        weights = gammas(random, count, draws) if len(clip) > 1 else []
        for (first, one), (second, other) in combinations(clip, 2):
            if (first, second) in cells:
                of_pair, place = cells[first, second], 2 * one + other
                of_pair[place] = [cell + weight for cell, weight in zip(of_pair[place], weights, strict=True)]
    return [fmean(drawn) for drawn in zip(*map(_kappas, cells.values()), strict=True)]
