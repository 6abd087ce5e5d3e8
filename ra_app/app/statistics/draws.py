"""Random draws of shares that fit some counts (a Dirichlet posterior), and the interval that holds most of them.

The seed is fixed, so that the same data give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from app.statistics.estimate import LEVEL

DRAWS = 2000  # moves a limit by about 4 % of the half-width from one seed to another
SEED = "intervals of the RA app"


def generator(*names: object) -> Random:
    """Return a generator of its own for what is named, the same in every run."""
    return Random(" ".join([SEED, *map(str, names)]))  # noqa: S311 - statistics, no secret


def gammas(random: Random, shape: float, draws: int) -> list[float]:
    """Return gamma draws. Divided by their sum over all cells of a table, they are draws of the cells' shares."""
    draw = random.gammavariate
    return [draw(shape, 1.0) for _ in range(draws)]


def middle(values: Sequence[float]) -> tuple[float, float]:
    """Return the limits between which the middle 95 % of the values lie.

    Raises:
        IndexError: there is no value.
    """
    ordered = sorted(values)
    tail = (1 - LEVEL) / 2
    return _quantile(ordered, tail), _quantile(ordered, 1 - tail)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
