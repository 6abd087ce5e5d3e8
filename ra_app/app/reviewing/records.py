"""Writes the append-only records: who did what with which clip, and who heard which seconds of it. Nothing commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from app import intervals
from app.intervals import Intervals
from app.models import OF_CLIPS, Assignment, AuditEntry, Exposure, db
from app.wellbeing import wellbeing_record

MAX_REPORT_MS = 3_600_000  # a page reports every minute; more than an hour at once is a mistake
MAX_INTERVALS = 500
MAX_EVENTS = 100


def note(user_id: int, event: str, audio_id: int, assignment_id: int | None, **details: Any) -> None:
    """Add an entry of the audit: one of `EVENTS` of app/models/records.py."""
    db.session.add(
        AuditEntry(user_id=user_id, event=event, audio_id=audio_id, assignment_id=assignment_id, details=details)
    )


def report(slot: Assignment, user_id: int, form: Mapping[str, str]) -> None:
    """Add what the page reports since its last report.

    That is milliseconds at work, the seconds that were played, and that the text was uncovered or hidden. A malformed
    report counts as none: it must never keep a label or a draft from being stored.
    """
    active = form.get("active_ms", "")
    if active.isascii() and active.isdigit() and len(active) < 10:
        slot.active_ms += min(int(active), MAX_REPORT_MS)
    for event in form.get("events", "").split()[:MAX_EVENTS]:
        if event in OF_CLIPS:
            wellbeing_record.note(user_id, event, audio_id=slot.audio_id, study_id=slot.study_id)
    played = intervals.merged(intervals.read(form.get("heard", ""), MAX_INTERVALS) or [])
    if played:
        db.session.add(
            Exposure(
                user_id=user_id,
                audio_id=slot.audio_id,
                assignment_id=slot.assignment_id,
                heard_ms=intervals.length_ms(played),
                intervals=played,
            )
        )


def heard(user_id: int, slot: Assignment) -> Intervals:
    """Return the parts of the clip that this person has heard so far in this study, merged."""
    db.session.flush()
    rows = db.session.scalars(
        sa.select(Exposure.intervals)
        .join(Assignment, Assignment.assignment_id == Exposure.assignment_id)
        .where(Exposure.user_id == user_id, Exposure.audio_id == slot.audio_id, Assignment.item_id == slot.item_id)
    )
    return intervals.merged(part for row in rows for part in row)
