"""Plots as SVG, made on the server: lines with a band, and bars. Each stands beside a table with the same numbers.

Colours come from `app.css` (classes `s0`, `s1`, …), so that a plot follows the theme. Nothing in it is inline style,
which the page's policy forbids. The text of a plot is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 28, 40
STEPS = 4  # parts of the upright axis
LETTER = 7  # width of a letter of a name, at most


@dataclass(frozen=True)
class Series:
    """A line. `low` and `high` are the band around it; a value of None is a gap."""

    name: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True)
class Axes:
    """What a plot is called, and how its axes are named. `places` are the positions of the values, in order."""

    title: str
    level: str
    upright: str
    places: Sequence[float]
    names: Sequence[str]  # one for each place
    top: float | None = None  # the highest value; None: as the values need
    write: Callable[[float], str] = "{:g}".format


def lines(axes: Axes, series: Sequence[Series], *, marks: Sequence[tuple[float, str]] = ()) -> Markup:
    """Return a plot of lines. `marks` are upright lines at places, each with a name (a threshold that is in force)."""
    top = axes.top or _top([value for each in series for value in (*each.values, *each.high) if value is not None])
    across, up = _across(axes.places), _up(top)
    parts = [_frame(axes, top, across)]
    parts += [_band(each, number, axes.places, across, up) for number, each in enumerate(series)]
    for number, each in enumerate(series):
        parts += _line(each, number, axes.places, across, up)
    for place, name in marks:
        x = across(place)
        parts.append(Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(x, TOP, HEIGHT - BOTTOM))
        parts.append(Markup('<text class="mark-name" x="{}" y="{}">{}</text>').format(x, TOP - 4, name))
    return _whole(axes, parts, [each.name for each in series])


def bars(axes: Axes, series: Sequence[Series]) -> Markup:
    """Return a plot of bars: at each place, one bar for each series, beside each other."""
    top = axes.top or _top([value for each in series for value in each.values if value is not None])
    room = (WIDTH - LEFT - RIGHT) / max(1, len(axes.places))
    width = min(48.0, room * 0.8 / max(1, len(series)))
    up = _up(top)

    def across(place: float) -> float:
        return round(LEFT + room * (list(axes.places).index(place) + 0.5), 1)

    parts = [_frame(axes, top, across)]
    for number, each in enumerate(series):
        shift = (number - len(series) / 2) * width
        for place, value in zip(axes.places, each.values, strict=True):
            if value is None:
                continue
            x, y = round(across(place) + shift, 1), up(value)
            size = (round(width - 1, 1), round(HEIGHT - BOTTOM - y, 1))
            parts.append(Markup('<rect class="s{}" x="{}" y="{}" width="{}" height="{}"/>').format(number, x, y, *size))
    return _whole(axes, parts, [each.name for each in series])


def _whole(axes: Axes, parts: Sequence[Markup], names: Sequence[str]) -> Markup:
    keys = Markup("")
    if len(names) > 1:
        keys = Markup("").join(
            Markup('<li><span class="key s{}"></span>{}</li>').format(number, name) for number, name in enumerate(names)
        )
        keys = Markup('<ul class="keys">{}</ul>').format(keys)
    return Markup(
        '<figure class="plot"><figcaption>{0}</figcaption>'
        '<svg viewBox="0 0 {1} {2}" role="img" aria-label="{0}">{3}</svg>{4}</figure>'
    ).format(axes.title, WIDTH, HEIGHT, Markup("").join(parts), keys)


def _frame(axes: Axes, top: float, across: Callable[[float], float]) -> Markup:
    up, parts = _up(top), []
    for step in range(STEPS + 1):
        value = top * step / STEPS
        y = up(value)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, y, y))
        parts.append(Markup('<text class="up" x="{}" y="{}">{}</text>').format(LEFT - 8, y + 4, axes.write(value)))
    for x, name in _apart([(across(place), name) for place, name in zip(axes.places, axes.names, strict=True)]):
        parts.append(Markup('<text class="level" x="{}" y="{}">{}</text>').format(x, HEIGHT - BOTTOM + 16, name))
    parts.append(Markup('<text class="axis" x="{}" y="14">{}</text>').format(LEFT, axes.upright))
    parts.append(Markup('<text class="axis end" x="{}" y="{}">{}</text>').format(WIDTH - RIGHT, HEIGHT - 6, axes.level))
    return Markup("").join(parts)


def _apart(names: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return the names of the level axis that do not run into each other, nor out of the picture at its right."""
    shown: list[tuple[float, str]] = []
    end = float("-inf")
    for place, name in sorted(names):
        half = LETTER * len(name) / 2
        x = min(place, WIDTH - half)
        if x - half >= end + LETTER:
            shown.append((round(x, 1), name))
            end = x + half
    return shown


def _band(
    series: Series, number: int, places: Sequence[float], across: Callable[[float], float], up: Callable[[float], float]
) -> Markup:
    if not series.low or not series.high:
        return Markup("")
    known = [
        (place, low, high)
        for place, low, high in zip(places, series.low, series.high, strict=True)
        if low is not None and high is not None
    ]
    there = [f"{across(place)},{up(high)}" for place, _, high in known]
    back = [f"{across(place)},{up(low)}" for place, low, _ in reversed(known)]
    return Markup('<polygon class="band s{}" points="{}"/>').format(number, " ".join(there + back))


def _line(
    series: Series, number: int, places: Sequence[float], across: Callable[[float], float], up: Callable[[float], float]
) -> list[Markup]:
    parts, points = [], []
    for place, value in [*zip(places, series.values, strict=True), (0.0, None)]:
        if value is not None:
            points.append(f"{across(place)},{up(value)}")
            continue
        if len(points) > 1:
            parts.append(Markup('<polyline class="s{}" points="{}"/>').format(number, " ".join(points)))
        elif points:
            x, y = points[0].split(",")
            parts.append(Markup('<circle class="s{}" cx="{}" cy="{}" r="3"/>').format(number, x, y))
        points = []
    return parts


def _across(places: Sequence[float]) -> Callable[[float], float]:
    first, last = (min(places), max(places)) if places else (0.0, 1.0)
    span = last - first or 1.0
    return lambda place: round(LEFT + (WIDTH - LEFT - RIGHT) * (place - first) / span, 1)


def _up(top: float) -> Callable[[float], float]:
    return lambda value: round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(value, 0.0), top) / top, 1)


def _top(values: Sequence[float]) -> float:
    """Return a round number that no value exceeds."""
    highest = max(values, default=0.0)
    if highest <= 0:
        return 1.0
    unit: float = 10.0 ** math.floor(math.log10(highest))
    return next(unit * factor for factor in (1, 2, 4, 5, 8, 10) if unit * factor >= highest)
