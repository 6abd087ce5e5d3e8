"""How times and days are written on pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from flask import Flask

from app import quality


def clock(seconds: float | None) -> str:
    """Format seconds as minutes and seconds, for example 0:06. None becomes a dash."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def day(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d") if moment is not None else "–"


def minute(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment is not None else "–"


def minutes(milliseconds: int) -> str:
    """Format a time that was heard as whole minutes; a part of a minute that is not zero is “< 1”."""
    return "< 1" if 0 < milliseconds < 60_000 else str(milliseconds // 60_000)


def doubts(reasons: Sequence[str]) -> list[str]:
    """Say in words why a part of a transcript is doubtful."""
    return quality.sentences(reasons)


def add_formats(app: Flask) -> None:
    for function in (clock, day, minute, minutes, doubts):
        app.add_template_filter(function)
