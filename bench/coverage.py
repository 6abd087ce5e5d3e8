"""How often the intervals of the RA app's statistics hold the true value: `make bench-coverage`, ARGS="--runs 200".

Each study is simulated with a known truth. A study with few clips can take only few values, so no method reaches 95 %
exactly; the last column says which limits are wanted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from app.statistics.agreement import agreement, agreement_of_kinds
from app.statistics.kappa import kappas
from app.statistics.strata import accuracy
from bench.coverage_cases import (
    DRAWS,
    Case,
    Strata,
    agreement_cases,
    curve_cases,
    kappa_cases,
    planned_cases,
    sample,
    sample_cases,
    shares_of_kinds,
    true_agreement,
    wilson_cases,
)

# 100,000 clips, of which 6 % have the label; the classifier finds 82 % of them. Unflagged clips are drawn at random or
# by score, which tells clips with the label from others about as well as normal distributions three deviations apart.
AT_RANDOM: Strata = [(6664, 6664, 0.7383, True), (93336, 800, 0.01157, False)]
BY_SCORE: Strata = [
    (6664, 6664, 0.7383, True),
    (4700, 330, 0.151, False),
    (9300, 210, 0.0276, False),
    (18700, 150, 0.0052, False),
    (60636, 110, 0.0004, False),
]


def cases(runs: int, seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    yield from wilson_cases()
    yield from agreement_cases(runs, rng)
    yield from kappa_cases(max(runs // 2, 1), rng)
    yield from sample_cases(runs, rng)
    yield from curve_cases(max(runs // 2, 1), rng)


def agreement_figures(clips: int, runs: int, seed: int) -> dict[str, tuple[float, float, float]]:
    """Two coders with 5 % error at 6 % prevalence: each measure's true value, and the range of 95 % of studies."""
    rng = np.random.default_rng(seed)
    shares = shares_of_kinds({2: 1.0}, 0.06, 0.05)
    studies = [
        agreement_of_kinds(dict(zip(shares, counts, strict=True)), draws=1)
        for counts in rng.multinomial(clips, list(shares.values()), size=runs).tolist()
    ]
    true = true_agreement(shares)
    found = {}
    for name in ("percent", "alpha", "ac1", "positive"):
        low, high = np.quantile([getattr(one, name).value for one in studies], [0.025, 0.975])
        found[name] = (getattr(true, name).value, float(low), float(high))
    return found


def recall_figures(strata: Strata, runs: int, seed: int) -> tuple[float, float, float, float, float]:
    """Return the true recall, the range of 95 % of the estimates, and the mean limits of their intervals."""
    rng = np.random.default_rng(seed)
    found = [accuracy(sample(strata, rng), draws=DRAWS).recall for _ in range(runs)]
    low, high = np.quantile([one.value or 0.0 for one in found], [0.025, 0.975])
    hits, positive = strata[0][0] * strata[0][2], sum(size * share for size, _, share, _ in strata)
    lows, highs = [one.low or 0.0 for one in found], [one.high or 0.0 for one in found]
    return hits / positive, float(low), float(high), sum(lows) / runs, sum(highs) / runs


def seconds_for(judgements: int, coders: int, per_clip: int) -> float:
    """CPU seconds for all measures of agreement on one label, intervals included."""
    rng = np.random.default_rng(1)
    answers = rng.random((judgements // per_clip, coders)) < 0.1  # a rare label
    judged = rng.permuted(np.tile(np.arange(coders) < per_clip, (len(answers), 1)), axis=1)
    clips = [
        {f"ra{coder}": bool(row[coder]) for coder in np.flatnonzero(asked)}
        for row, asked in zip(answers, judged, strict=True)
    ]
    started = time.process_time()
    agreement(clips)
    kappas(clips)
    return time.process_time() - started


def main() -> int:
    """Print the table, and return 1 if a coverage is not what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated studies per line")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    started = time.process_time()
    print("| measure | study | % held | below / above the truth | undefined | mean width | wanted |")
    print("|---|---|---|---|---|---|---|")
    missed = 0
    for case in cases(given.runs, given.seed):
        missed += not case.as_wanted
        misses = f"{100 * case.too_low / max(case.defined, 1):.1f} / {100 * case.too_high / max(case.defined, 1):.1f}"
        print(
            f"| {case.measure} | {case.study} | {case.coverage:.1f}{'' if case.as_wanted else ' !'} | {misses} "
            f"| {case.undefined} | {case.mean_width:.3f} | {case.wanted}{'; ' if case.why else ''}{case.why} |",
            flush=True,
        )
    _print_plans(given.runs // 4, given.seed)
    _print_figures(given.runs, given.seed)
    for coders in (3, 12, 40):
        spent = seconds_for(100_000, coders, 3)
        print(f"\n100,000 judgements of one label by {coders} coders, 3 per clip: {spent:.1f} s of CPU", end="")
    spent = time.process_time() - started
    print(f"\n\n{given.runs} studies per line, {spent:.0f} s of CPU; {missed} not as wanted (marked !)")
    return int(missed > 0)


def _print_plans(runs: int, seed: int) -> None:
    print("\n| plan | wished half-width | clips | mean of the studies | 9 of 10 below |\n|---|---|---|---|---|")
    for plan in planned_cases(max(runs, 1), np.random.default_rng(seed)):
        print(f"| {plan.study} | {plan.wished} | {plan.review:,} | {plan.mean:.3f} | {plan.longest:.3f} |", flush=True)


def _print_figures(runs: int, seed: int) -> None:
    print("\nTwo coders, 6 % prevalence, 5 % error, 1,000 clips: true value, and range of 95 % of the studies")
    for name, (true, low, high) in agreement_figures(1000, runs, seed).items():
        print(f"  {name}: {true:.3f}, {low:.3f}–{high:.3f}")
    for name, strata in (("at random", AT_RANDOM), ("by score", BY_SCORE)):
        true, low, high, mean_low, mean_high = recall_figures(strata, runs, seed)
        print(
            f"  recall, 800 unflagged clips {name}: true {true:.3f}; 95 % of the estimates {low:.2f}–{high:.2f}; "
            f"mean interval {mean_low:.2f}–{mean_high:.2f}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
