"""How well verdicts agree with the labels of people, on examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from policy_lab.intervals import Interval, f1_interval, wilson


@dataclass(frozen=True)
class Share:
    """A share of examples. None where it is not defined, for example a precision when nothing was flagged."""

    value: float | None
    interval: Interval | None  # 95 %


@dataclass(frozen=True)
class Confusion:
    """Examples by label and verdict."""

    hits: int  # violate, and are flagged
    false_alarms: int  # do not violate, and are flagged
    misses: int  # violate, and are not flagged
    rest: int  # do not violate, and are not flagged

    @classmethod
    def count(cls, verdicts: Iterable[tuple[bool, bool]]) -> Confusion:
        """Count pairs (violates, flagged)."""
        pairs = list(verdicts)
        return cls(
            hits=pairs.count((True, True)),
            false_alarms=pairs.count((False, True)),
            misses=pairs.count((True, False)),
            rest=pairs.count((False, False)),
        )

    @property
    def total(self) -> int:
        return self.hits + self.false_alarms + self.misses + self.rest

    @property
    def precision(self) -> Share:
        """Of the flagged examples, the share that violates the policy."""
        return _share(self.hits, self.hits + self.false_alarms)

    @property
    def recall(self) -> Share:
        """Of the examples that violate the policy, the share that is flagged."""
        return _share(self.hits, self.hits + self.misses)

    @property
    def f1(self) -> Share:
        """The harmonic mean of precision and recall."""
        weight = 2 * self.hits + self.false_alarms + self.misses
        interval = f1_interval(self.hits, self.false_alarms, self.misses, self.rest)
        return Share(2 * self.hits / weight if weight else None, interval)


def _share(hits: int, of: int) -> Share:
    return Share(hits / of if of else None, wilson(hits, of))
