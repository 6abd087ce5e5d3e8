"""How sure a share is that was counted on few examples: intervals that hold the true value in 95 of 100 cases."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054  # the normal distribution has 95 % of its weight between -Z_95 and Z_95
RESAMPLES = 2000
SEED = 20261129  # fixed, so that the same examples give the same interval each time


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def wilson(hits: int, of: int) -> Interval | None:
    """The score interval of E. B. Wilson (J. Amer. Statist. Assoc. 22, 1927, 209-212) for `hits` of `of`.

    Unlike the textbook's plus-or-minus it stays within 0 and 1 and holds for few cases. None for 0 of 0.
    """
    if not of:
        return None
    share, z2 = hits / of, Z_95 * Z_95
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z_95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    # At the ends the formula is 0 or 1, but for the last digit of floating-point numbers.
    return Interval(0.0 if hits == 0 else middle - half, 1.0 if hits == of else middle + half)


def f1_interval(hits: int, false_alarms: int, misses: int, rest: int) -> Interval | None:
    """The percentile bootstrap of F1 (no closed formula is exact): examples are drawn anew, with a fixed seed.

    None when F1 is not defined: nothing was flagged and nothing violates.
    """
    import numpy as np  # not needed by the other commands, which start faster without

    total = hits + false_alarms + misses + rest
    if not hits + false_alarms + misses:
        return None
    drawn = np.random.default_rng(SEED).multinomial(
        total, np.array([hits, false_alarms, misses, rest]) / total, size=RESAMPLES
    )
    wrong = drawn[:, 1] + drawn[:, 2]
    defined = drawn[:, 0] + wrong > 0
    values = 2 * drawn[defined, 0] / (2 * drawn[defined, 0] + wrong[defined])
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
