"""Writes the append-only record of how people are protected from the clips. Nothing here commits."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from app.models import WellbeingEntry, db

_LOCK = 0x7261_7762  # "rawb": one request of a person at a time looks whether the entry of the day is there


def note(user_id: int, event: str, *, audio_id: int | None = None, study_id: int | None = None, **details: Any) -> None:
    """Add an entry: one of `WELLBEING` of app/models/wellbeing.py."""
    db.session.add(WellbeingEntry(user_id=user_id, event=event, audio_id=audio_id, study_id=study_id, details=details))


def note_limit(user_id: int, event: str, **details: Any) -> None:
    """Add an entry, unless there is one of this event and person in this UTC day."""
    if _noted_today(user_id, event):
        return
    db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK, user_id % 2**31)))
    if not _noted_today(user_id, event):
        note(user_id, event, **details)


def _noted_today(user_id: int, event: str) -> bool:
    today = sa.func.date_trunc("day", sa.func.now(), "UTC")
    entry = sa.select(1).where(
        WellbeingEntry.user_id == user_id, WellbeingEntry.at >= today, WellbeingEntry.event == event
    )
    return bool(db.session.scalar(sa.select(sa.exists(entry))))
