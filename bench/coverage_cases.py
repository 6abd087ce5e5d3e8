"""Simulated studies: how often the intervals of the RA app's statistics hold the true value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb, exp, lgamma, log, sqrt

import numpy as np

from app.statistics.agreement import Agreement, agreement_of_kinds
from app.statistics.confusion import Scored, curve
from app.statistics.estimate import Estimate
from app.statistics.kappa import kappa_of, kappas
from app.statistics.planning import Group, expected_groups, plan_precision, plan_recall
from app.statistics.proportions import proportion, wilson
from app.statistics.strata import Accuracy, Stratum, accuracy

DRAWS = 1000
MANY = 10**12  # clips: so many that the estimate is the true value

Shares = dict[tuple[int, int], float]  # of clips by (judged by, said yes)


@dataclass
class Case:
    """One interval in one kind of study."""

    measure: str
    study: str
    wanted: str = "93–97"  # what holds here, in per cent; other limits than these need a reason
    why: str = ""
    held: int = 0
    too_low: int = 0  # the whole interval lies below the true value
    too_high: int = 0
    undefined: int = 0
    width: float = 0.0

    def add(self, found: Estimate, true: float) -> None:
        if found.low is None or found.high is None:
            self.undefined += 1
            return
        self.too_low += found.high < true - 1e-12
        self.too_high += found.low > true + 1e-12
        self.held += found.low - 1e-12 <= true <= found.high + 1e-12
        self.width += found.high - found.low

    @property
    def defined(self) -> int:
        return self.held + self.too_low + self.too_high

    @property
    def coverage(self) -> float:
        """Per cent of the defined intervals that held the true value."""
        return 100 * self.held / max(self.defined, 1)

    @property
    def mean_width(self) -> float:
        return self.width / max(self.defined, 1)

    @property
    def as_wanted(self) -> bool:
        """Whether the coverage is what is wanted, within the noise of the simulation."""
        low, high = (float(part) for part in self.wanted.split("–"))
        return self.is_within(low, high)

    def is_within(self, low: float, high: float) -> bool:
        """Whether the coverage lies between these limits, in per cent, but for the noise of the simulation."""
        noise = 2.6 * 100 * sqrt(0.05 * 0.95 / max(self.defined, 1))  # points that one line of 100 exceeds
        return low - noise <= self.coverage <= high + noise


# Agreement


def shares_of_kinds(coders: dict[int, float], prevalence: float, error: float) -> Shares:
    """Return the shares of kinds of clips. `coders` has the share of clips by how many coders judge them."""
    return {
        (judged, yes): share
        * comb(judged, yes)
        * (
            prevalence * (1 - error) ** yes * error ** (judged - yes)
            + (1 - prevalence) * error**yes * (1 - error) ** (judged - yes)
        )
        for judged, share in coders.items()
        for yes in range(judged + 1)
    }


def true_agreement(shares: Shares) -> Agreement:
    return agreement_of_kinds({kind: round(share * MANY) for kind, share in shares.items()}, draws=1)


AGREEMENT = [  # name, coders, prevalence, error, clips
    ("2 coders, 6 % yes, 5 % error, 100 clips", {2: 1.0}, 0.06, 0.05, 100),
    ("2 coders, 6 % yes, 5 % error, 30 clips", {2: 1.0}, 0.06, 0.05, 30),
    ("2 coders, 30 % yes, 15 % error, 30 clips", {2: 1.0}, 0.3, 0.15, 30),
    ("2 coders, 50 % yes, 2 % error, 100 clips", {2: 1.0}, 0.5, 0.02, 100),
    ("3 coders, 6 % yes, 5 % error, 50 clips", {3: 1.0}, 0.06, 0.05, 50),
    ("3 coders, 6 % yes, 5 % error, 1,000 clips", {3: 1.0}, 0.06, 0.05, 1000),
    ("3 coders, 30 % yes, 15 % error, 300 clips", {3: 1.0}, 0.3, 0.15, 300),
    ("1 to 4 coders, 6 % yes, 5 % error, 100 clips", {1: 0.3, 2: 0.4, 3: 0.2, 4: 0.1}, 0.06, 0.05, 100),
    ("1 to 4 coders, 30 % yes, 10 % error, 300 clips", {1: 0.3, 2: 0.4, 3: 0.2, 4: 0.1}, 0.3, 0.1, 300),
    ("10 coders, 6 % yes, 5 % error, 50 clips", {10: 1.0}, 0.06, 0.05, 50),
    ("5 to 8 coders, 20 % yes, 10 % error, 60 clips", {5: 0.4, 6: 0.3, 7: 0.2, 8: 0.1}, 0.2, 0.1, 60),
]


def agreement_cases(runs: int, rng: np.random.Generator) -> Iterator[Case]:
    for study, coders, prevalence, error, clips in AGREEMENT:
        shares = shares_of_kinds(coders, prevalence, error)
        true = true_agreement(shares)
        cases = {name: Case(name, study) for name in ("percent", "alpha", "ac1", "positive")}
        kinds = list(shares)
        for counts in rng.multinomial(clips, list(shares.values()), size=runs).tolist():
            found = agreement_of_kinds(dict(zip(kinds, counts, strict=True)), DRAWS)
            for name, case in cases.items():
                case.add(getattr(found, name), getattr(true, name).value)
        yield from cases.values()


FEW_PER_PAIR = 120  # with so few, kappa itself is off by an amount that the mean over pairs does not lose

KAPPA = [  # coders, how many of them judge each clip, prevalence, errors of the coders, clips
    (2, 2, 0.06, (0.05, 0.05), 100),
    (2, 2, 0.3, (0.02, 0.2), 30),
    (3, 3, 0.06, (0.05, 0.05, 0.05), 50),
    (3, 3, 0.3, (0.05, 0.1, 0.2), 100),
    (6, 2, 0.3, (0.1,) * 6, 600),
    (6, 3, 0.06, (0.05,) * 6, 600),
]


def kappa_cases(runs: int, rng: np.random.Generator) -> Iterator[Case]:
    for coders, judging, prevalence, errors, clips in KAPPA:
        study = f"{coders} coders, {judging} per clip, {prevalence * 100:.0f} % yes, {clips} clips"
        pair, mean = Case("kappa of a pair", study), Case("mean kappa", study)
        if coders > 2 and clips * judging * (judging - 1) / (coders * (coders - 1)) <= FEW_PER_PAIR:
            mean.wanted, mean.why = "90–97", "few clips per pair"
        true = {
            (f"{one}", f"{other}"): _true_kappa(prevalence, errors[one], errors[other])
            for one in range(coders)
            for other in range(one + 1, coders)
        }
        true_mean = sum(true.values()) / len(true)
        for _ in range(runs):
            yes = rng.random(clips) < prevalence
            answers = yes[:, None] ^ (rng.random((clips, coders)) < np.array(errors))
            judged = rng.permuted(np.tile(np.arange(coders) < judging, (clips, 1)), axis=1)
            found = kappas(
                [
                    {f"{coder}": bool(row[coder]) for coder in range(coders) if asked[coder]}
                    for row, asked in zip(answers, judged, strict=True)
                ],
                DRAWS // 2,
            )
            first = found.pairs[0]
            pair.add(first.kappa, true[first.first, first.second])
            mean.add(found.mean, true_mean)
        yield pair
        yield mean


def _true_kappa(prevalence: float, one: float, other: float) -> float:
    cells = [
        prevalence * _answer(a, one) * _answer(b, other)
        + (1 - prevalence) * _answer(1 - a, one) * _answer(1 - b, other)
        for a in (0, 1)
        for b in (0, 1)
    ]
    return kappa_of((cells[0], cells[1], cells[2], cells[3])) or 0.0


def _answer(right: int, error: float) -> float:
    return 1 - error if right else error


# Shares


def wilson_cases() -> Iterator[Case]:
    """Exact, not simulated: the mean over shares within a fifth of the one named."""
    for clips in (20, 100, 400, 1000):
        for share in (0.02, 0.1, 0.3, 0.5):
            case = Case("Wilson", f"{clips} clips, share about {share:g}")
            shares = [share * (0.8 + 0.02 * step) for step in range(21)]
            held = [
                sum(_binomial(yes, clips, one) for yes in range(clips + 1) if _holds(yes, clips, one)) for one in shares
            ]
            case.held, case.too_low = round(1e6 * sum(held) / 21), round(1e6 * (1 - sum(held) / 21))
            low, high = wilson(share, clips)
            case.width = 1e6 * (high - low)
            case.why = f"worst single share {100 * min(held):.1f}"
            if clips * share < 1:
                case.wanted = "93–99"
            yield case


def _holds(yes: int, clips: int, share: float) -> bool:
    low, high = proportion(yes, clips).low or 0.0, proportion(yes, clips).high or 0.0
    return low <= share <= high


def _binomial(yes: int, of: int, share: float) -> float:
    ways = lgamma(of + 1) - lgamma(yes + 1) - lgamma(of - yes + 1)
    return exp(ways + yes * log(share) + (of - yes) * log(1 - share))


# The classifier

Strata = list[tuple[int, int, float, bool]]  # clips, reviewed, share with the label, flagged

SAMPLES: list[tuple[str, Strata]] = [
    ("all flagged, 800 others, 9 missed seen", [(6000, 6000, 0.82, True), (94000, 800, 0.0115, False)]),
    ("all flagged, 800 others, 1 missed seen", [(600, 600, 0.82, True), (99400, 800, 0.0011, False)]),
    ("500 flagged, 800 others, 2 missed seen", [(1500, 500, 0.8, True), (98500, 800, 0.003, False)]),
    (
        "1,000 flagged, 800 others by score, 44 missed seen",
        [(6000, 1000, 0.82, True), (4000, 300, 0.12, False), (10000, 200, 0.03, False),
         (20000, 200, 0.008, False), (60000, 100, 0.0007, False)],
    ),
    (
        "500 flagged, 800 others by score, 12 missed seen",
        [(1000, 500, 0.7, True), (2000, 200, 0.05, False), (8000, 200, 0.008, False),
         (30000, 200, 0.001, False), (59000, 200, 0.0002, False)],
    ),
    (
        "flagged and others in two strata each, 16 missed seen",
        [(2000, 200, 0.95, True), (4000, 200, 0.6, True), (20000, 500, 0.03, False), (74000, 300, 0.002, False)],
    ),
    ("60 of 200 flagged, 150 others, 5 missed seen", [(200, 60, 0.7, True), (3000, 150, 0.03, False)]),
    ("20 of 200 flagged, 50 others, 1 or 2 missed seen", [(200, 20, 0.7, True), (3000, 50, 0.03, False)]),
]  # fmt: skip


def sample(strata: Strata, rng: np.random.Generator, *, future: bool = False) -> list[Stratum]:
    """Draw the clips of a study and return what the people found in each stratum."""
    found = []
    for size, reviewed, share, flagged in strata:
        yes = round(size * share)
        positive = int(rng.binomial(reviewed, share) if future else rng.hypergeometric(yes, size - yes, reviewed))
        counts = (positive, reviewed - positive)
        found.append(Stratum(size, *counts) if flagged else Stratum(size, 0, 0, *counts))
    return found


def true_accuracy(strata: Strata) -> Accuracy:
    return accuracy([Stratum(size, *_exact(size, share, flagged)) for size, _, share, flagged in strata], draws=1)


def _exact(size: int, share: float, flagged: bool) -> tuple[float, ...]:
    yes = round(size * share)
    return (yes, size - yes) if flagged else (0, 0, yes, size - yes)


def sample_cases(runs: int, rng: np.random.Generator) -> Iterator[Case]:
    """As with Wilson's interval, a mean over shares of missed clips within a fifth of the one named."""
    for study, strata in SAMPLES:
        for future in (False, True):
            known = not future and strata[0][0] == strata[0][1]  # a precision without an interval
            cases = {
                name: Case(name + (", also of future clips" if future else ""), study)
                for name in (("recall",) if known else ("recall", "precision"))
            }
            for _ in range(runs):
                near = _near(strata, rng.uniform(0.8, 1.2))
                true = true_accuracy(near)
                found = accuracy(sample(near, rng, future=future), future=future, draws=DRAWS)
                for name, case in cases.items():
                    case.add(getattr(found, name), getattr(true, name).value)
            yield from cases.values()


def _near(strata: Strata, factor: float) -> Strata:
    return [
        (size, reviewed, share if flagged else round(size * share * factor) / size, flagged)
        for size, reviewed, share, flagged in strata
    ]


def curve_cases(runs: int, rng: np.random.Generator) -> Iterator[Case]:
    """A curve over 30,000 clips, 6 % positive. Reviewed: each fourth that scores above 1, each 30th of the others."""
    clips, thresholds = 30_000, (0.5, 1.5, 2.5)
    positive = np.arange(clips) < clips * 0.06
    scores = np.where(positive, 2.5, 0.0) + rng.standard_normal(clips)
    parts = [("high", 4, np.flatnonzero(scores > 1)), ("low", 30, np.flatnonzero(scores <= 1))]
    cases = {
        (name, threshold): Case(f"curve: {name}", f"30,000 clips, threshold {threshold}")
        for threshold in thresholds
        for name in ("precision", "recall")
    }
    for _ in range(runs):
        seen = [
            Scored(float(scores[one]), bool(positive[one]), len(places) / (len(places) // each), name)
            for name, each, places in parts
            for one in rng.choice(places, len(places) // each, replace=False)
        ]
        for point in curve(seen, thresholds, draws=DRAWS):
            flagged = scores >= point.threshold
            hits = int((flagged & positive).sum())
            cases["precision", point.threshold].add(point.precision, hits / int(flagged.sum()))
            cases["recall", point.threshold].add(point.recall, hits / int(positive.sum()))
    yield from cases.values()


# Plans


@dataclass(frozen=True)
class Planned:
    """A plan, and the half-widths that simulated studies of this size had."""

    study: str
    wished: float
    review: int
    mean: float
    longest: float  # nine of ten studies had a shorter one


def planned_cases(runs: int, rng: np.random.Generator) -> Iterator[Planned]:
    for wished, share, size in ((0.05, 0.82, 6000), (0.03, 0.9, 500)):
        plan = plan_precision(wished, share, size)
        strata: Strata = [(size, plan.review, share, True)]
        widths = [accuracy(sample(strata, rng), draws=DRAWS).precision.half_width or 0.0 for _ in range(runs)]
        yield _planned(f"precision about {share}, {size:,} flagged clips", wished, plan.review, widths)
    before = expected_groups(100_000, 6000, 0.06, 0.82)
    by_score = [
        Group(6000, True, 0.82),
        Group(4000, False, 0.12),
        Group(10000, False, 0.03),
        Group(80000, False, 0.002),
    ]
    for name, groups in (("all others as one", before), ("others by score", by_score)):
        for wished in (0.1, 0.05):
            recall = plan_recall(wished, groups)
            drawn = [(g.size, n, g.share, g.flagged) for g, n in zip(groups, recall.by_group, strict=True)]
            widths = [accuracy(sample(drawn, rng), draws=DRAWS).recall.half_width or 0.0 for _ in range(runs)]
            yield _planned(f"recall about 0.82, 100,000 clips, {name}", wished, recall.review, widths)


def _planned(study: str, wished: float, review: int, widths: Sequence[float]) -> Planned:
    return Planned(study, wished, review, sum(widths) / len(widths), sorted(widths)[int(0.9 * len(widths))])
