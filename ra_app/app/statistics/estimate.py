"""A number with its 95 % interval, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval. If it is not defined, all numbers are None and `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    of: int  # how many clips the number rests on
    reason: str = ""

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def undefined(reason: str, of: int = 0) -> Estimate:
    return Estimate(None, None, None, of, reason)


def bounded(value: float, low: float, high: float, of: int) -> Estimate:
    """Return the estimate. An interval that misses the value, as happens at 0 and 1, is extended to it."""
    return Estimate(value, min(low, value), max(high, value), of)
