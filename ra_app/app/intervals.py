"""Parts of a clip: [[from, to], ...] in seconds, as the browser sends them and as the tables keep them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

MAX_S = 86_400.0

Intervals = list[list[float]]


def read(text: str, most: int) -> Intervals | None:
    """Return the parts that a form field holds, or None if it holds anything else, or more than `most` parts."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, list) or len(given) > most or not all(_is_interval(part) for part in given):
        return None
    return [[float(start), float(end)] for start, end in given]


def merged(parts: Iterable[list[float]]) -> Intervals:
    """Return the parts in order, with those that touch or overlap as one."""
    found: Intervals = []
    for start, end in sorted(parts):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return found


def length_ms(parts: Intervals) -> int:
    return round(1000 * sum(end - start for start, end in parts))


def _is_interval(part: Any) -> bool:
    if not isinstance(part, list) or len(part) != 2:
        return False
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in part)
    return numbers and 0 <= part[0] < part[1] <= MAX_S  # false for NaN and infinity, too
