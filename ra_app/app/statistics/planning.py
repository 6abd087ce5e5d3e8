"""How many clips to review for an interval of a wished half-width, before a study and during it.

A plan uses the interval that will be reported, on the counts that are expected. The half-width that comes out differs
from the wished one as far as the counts do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt

from app.statistics.proportions import wilson
from app.statistics.strata import PRIOR, Stratum, accuracy

LEAST = 20  # clips per stratum (or all, if it has fewer), so that each stratum shows something of itself
DRAWS = 1000
MOST_CLIPS = 10_000_000  # no plan is larger


@dataclass(frozen=True)
class Group:
    """A stratum of a plan: its clips, what is expected of them, and what was found so far."""

    size: int
    flagged: bool
    share: float  # of clips to which the label is expected to apply; during a study, counts so far are added
    reviewed: int = 0
    positive: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"{self}: the expected share must be from 0 to 1")
        if not 0 <= self.positive <= self.reviewed <= self.size:
            raise ValueError(f"{self}: counts must rise from positive to reviewed to size")


@dataclass(frozen=True)
class Plan:
    """How many clips to review in all (those so far included), and the half-width that is expected then."""

    review: int
    more: int  # than were reviewed so far
    half_width: float
    by_group: tuple[int, ...] = ()  # of `review`, in the order of the groups


def plan_precision(half_width: float, share: float, size: int = MOST_CLIPS, *, reviewed: int = 0) -> Plan:
    """Return how many flagged clips to review for precision.

    Args:
        half_width: the wished one: 0.05 for "plus or minus five points".
        share: the expected precision; during a study, the one found so far.
        size: how many flagged clips there are.
        reviewed: how many were reviewed so far.

    Raises:
        ValueError: the half-width or the share does not exist, or more clips were reviewed than there are.
    """
    _check_half_width(half_width)
    if not 0 <= share <= 1 or not 0 <= reviewed <= size or size < 1:
        raise ValueError(f"a share of {share} and {reviewed} of {size} clips reviewed do not fit together")

    def expected(review: int) -> float:
        low, high = wilson(share, review)
        return (high - low) / 2 * _left_over(review, size)

    review = max(reviewed, _least(expected, half_width, 1, size))
    return Plan(review, review - reviewed, expected(review))


def expected_groups(clips: int, flagged: int, prevalence: float, recall: float) -> list[Group]:
    """Return the two groups of a study that has not begun: flagged clips and the rest, from assumptions.

    Raises:
        ValueError: the numbers contradict one another.
    """
    hits, misses = clips * prevalence * recall, clips * prevalence * (1 - recall)
    if not (0 < flagged < clips and 0 <= prevalence <= 1 and 0 <= recall <= 1):
        raise ValueError(f"{flagged} flagged of {clips} clips, prevalence {prevalence}, recall {recall}: not possible")
    if hits > flagged or misses > clips - flagged:
        raise ValueError(
            f"{clips} clips, prevalence {prevalence} and recall {recall} mean {hits:.0f} rightly flagged and "
            f"{misses:.0f} missed clips, more than {flagged} flagged and {clips - flagged} others can hold"
        )
    return [
        Group(flagged, flagged=True, share=hits / flagged),
        Group(clips - flagged, False, misses / (clips - flagged)),
    ]


def plan_recall(half_width: float, groups: Sequence[Group]) -> Plan:
    """Return how many clips of each group to review for recall.

    Clips are shared out so that the expected interval is shortest (Neyman's rule). Clips already reviewed stay.

    Raises:
        ValueError: the half-width does not exist, there is no flagged or no unflagged clip, or none is expected to
            have the label.
    """
    _check_half_width(half_width)
    kept = [_updated(group) for group in groups]
    if not any(group.flagged for group in kept if group.size) or all(group.flagged for group in kept if group.size):
        raise ValueError("recall needs flagged and unflagged clips; name a group of each")
    if not any(group.share * group.size for group in kept if group.flagged):
        raise ValueError("no flagged clip is expected to have the label, so recall has no interval to plan")
    pulls = _pulls(kept)

    def expected(review: int) -> float:
        return _expected_half_width(kept, _shared_out(review, kept, pulls))

    first = sum(max(group.reviewed, min(LEAST, group.size)) for group in kept)
    review = _least(expected, half_width, first, sum(group.size for group in kept))
    by_group = _shared_out(review, kept, pulls)
    return Plan(
        sum(by_group),
        sum(by_group) - sum(group.reviewed for group in groups),
        _expected_half_width(kept, by_group),
        tuple(by_group),
    )


def _check_half_width(half_width: float) -> None:
    if not 0 < half_width < 0.5:
        raise ValueError(f"a half-width of {half_width} cannot be planned: it must be above 0 and below 0.5")


def _left_over(review: int, size: int) -> float:
    """Return how much of the spread is left if the rest of the clips is finite."""
    return sqrt((size - review) / max(size - 1, 1)) if size < MOST_CLIPS else 1.0


def _least(expected: Callable[[int], float], wished: float, low: int, high: int) -> int:
    """Return the smallest number from low to high whose expected half-width is at most the wished one, else high."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if expected(middle) <= wished else (middle + 1, high)
    return low


def _updated(group: Group) -> Group:
    """Return the group with the share that its counts show. An assumption counts as much as LEAST clips."""
    if not group.reviewed:
        return group
    share = (group.positive + LEAST * group.share) / (group.reviewed + LEAST)
    return replace(group, share=share)


def _pulls(groups: Sequence[Group]) -> list[float]:
    """Return how much each group's clips matter: its spread over the number of clips with the label on its side."""
    totals = {
        side: sum(group.size * group.share for group in groups if group.flagged is side) for side in (True, False)
    }
    floor = PRIOR  # a side on which nothing is expected still has to be looked at
    return [
        group.size * sqrt(max(group.share * (1 - group.share), floor / max(group.size, 1) / len(groups)))
        / max(totals[group.flagged], floor)
        for group in groups
    ]  # fmt: skip


def _shared_out(review: int, groups: Sequence[Group], pulls: Sequence[float]) -> list[int]:
    """Return how many clips of each group are reviewed, of `review` in all."""
    found = [max(group.reviewed, min(LEAST, group.size)) for group in groups]
    open_groups = set(range(len(groups)))
    while open_groups:
        left = review - sum(found[place] for place in range(len(groups)) if place not in open_groups)
        whole = sum(pulls[place] for place in open_groups)
        wished = {place: left * pulls[place] / whole if whole else 0.0 for place in open_groups}
        full = {place for place, clips in wished.items() if clips >= groups[place].size}
        short = {place for place, clips in wished.items() if clips <= found[place]}
        for place in full:
            found[place] = groups[place].size
        if not full and not short:
            for place, clips in wished.items():
                found[place] = ceil(clips)
            break
        open_groups -= full or short
    return found


def _expected_half_width(groups: Sequence[Group], review: Sequence[int]) -> float:
    strata = []
    for group, clips in zip(groups, review, strict=True):
        positive = group.positive + (clips - group.reviewed) * group.share
        counts = (positive, clips - positive)
        if group.size:
            strata.append(Stratum(group.size, *counts) if group.flagged else Stratum(group.size, 0, 0, *counts))
    return accuracy(strata, draws=DRAWS).recall.half_width or 0.0
