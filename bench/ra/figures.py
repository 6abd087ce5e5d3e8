"""A line of the table of the review screen's measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


class MeasureError(Exception):
    """A measure cannot be taken, because the app does not do what the measure begins with."""


def demand(holds: bool, otherwise: str) -> None:
    """Raise `MeasureError` with this sentence unless it holds."""
    if not holds:
        raise MeasureError(otherwise)


@dataclass(frozen=True)
class Figure:
    """`met` is None when nothing is demanded, or when the measure could not be taken: then `figure` says why."""

    measure: str
    target: str
    figure: str
    met: bool | None


def at_most(measure: str, limit: float, value: float, unit: str, *, digits: int = 0, note: str = "") -> Figure:
    """A line whose value must not be above the limit. `note` stands after the value."""
    shown = f"{value:,.{digits}f} {unit}".strip()
    return Figure(
        measure, f"≤ {limit:,.{digits}f} {unit}".strip(), f"{shown}{f' ({note})' if note else ''}", value <= limit
    )


def none_of(measure: str, found: Sequence[object], of: str) -> Figure:
    """A line that is met when nothing was found. The first things that were found are named."""
    named = f": {'; '.join(str(thing) for thing in found[:3])}" if found else ""
    return Figure(measure, "0", f"{len(found)} ({of}){named}", not found)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which at least this share of the values lies: the nearest rank."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
