"""A share of clips that were all drawn with the same probability, with Wilson's interval."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from app.statistics.estimate import LEVEL, Estimate, bounded, undefined

Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
NONE_REVIEWED = "no clip was reviewed"


def proportion(yes: int, of: int) -> Estimate:
    """Return the share of `yes` among `of` clips.

    Raises:
        ValueError: a count is negative, or `yes` is more than `of`.
    """
    if not 0 <= yes <= of:
        raise ValueError(f"{yes} of {of} clips: the first count must be from 0 to the second")
    if not of:
        return undefined(NONE_REVIEWED)
    return bounded(yes / of, *wilson(yes / of, of), of)


def wilson(share: float, of: float) -> tuple[float, float]:
    """Return the limits for a share of `of` clips, which may be an effective number, not a whole one.

    Raises:
        ValueError: the share is not from 0 to 1, or `of` is not positive.
    """
    if not 0 <= share <= 1 or of <= 0:
        raise ValueError(f"a share of {share} of {of} clips does not exist")
    centre = (share + Z * Z / (2 * of)) / (1 + Z * Z / of)
    half = Z / (1 + Z * Z / of) * sqrt(share * (1 - share) / of + (Z / (2 * of)) ** 2)
    return max(0.0, centre - half), min(1.0, centre + half)
