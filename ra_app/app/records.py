"""Writes the append-only records: who did what with which clip, and who heard which seconds of it. Nothing commits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from app.models import Assignment, AuditEntry, Exposure, db

MAX_REPORT_MS = 3_600_000  # a page reports every minute; more than an hour at once is a mistake
MAX_INTERVALS = 500
MAX_S = 86_400.0

Intervals = list[list[float]]


def note(user_id: int, event: str, audio_id: int, assignment_id: int | None, **details: Any) -> None:
    """Add an entry of the audit: one of `EVENTS` of app/models/records.py."""
    db.session.add(
        AuditEntry(user_id=user_id, event=event, audio_id=audio_id, assignment_id=assignment_id, details=details)
    )


def report(slot: Assignment, user_id: int, form: Mapping[str, str]) -> None:
    """Add what the page reports since its last report: milliseconds at work, and the seconds that were played.

    A malformed report counts as none: it must never keep a label or a draft from being stored.
    """
    active = form.get("active_ms", "")
    if active.isascii() and active.isdigit() and len(active) < 10:
        slot.active_ms += min(int(active), MAX_REPORT_MS)
    played = merged(_intervals(form.get("heard", "")))
    if played:
        db.session.add(
            Exposure(
                user_id=user_id,
                audio_id=slot.audio_id,
                assignment_id=slot.assignment_id,
                heard_ms=length_ms(played),
                intervals=played,
            )
        )


def heard(user_id: int, audio_id: int) -> Intervals:
    """Return the parts of the clip that this person has heard so far, merged."""
    db.session.flush()
    rows = db.session.scalars(
        sa.select(Exposure.intervals).where(Exposure.user_id == user_id, Exposure.audio_id == audio_id)
    )
    return merged(part for row in rows for part in row)


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


def _intervals(text: str) -> Intervals:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(given, list) or len(given) > MAX_INTERVALS:
        return []
    return [[float(part[0]), float(part[1])] for part in given if _is_interval(part)]


def _is_interval(part: Any) -> bool:
    if not isinstance(part, list) or len(part) != 2:
        return False
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in part)
    return numbers and 0 <= part[0] < part[1] <= MAX_S  # false for NaN and infinity, too
