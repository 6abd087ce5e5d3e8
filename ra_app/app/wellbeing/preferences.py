"""Somebody's own choices, as the form of the personal page offers, checks and stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from app.models import Preferences, db
from app.wellbeing import wellbeing_record, wellness
from app.wellbeing.wellness import Wellness
from app.wellbeing.wellness_values import OF_PERSON, read

# A person's own limit counts only if it is no larger than the study's. What the study does, to say so in an error.
LIMITS = {
    "break_after_minutes": "proposes a break",
    "soft_minutes": "tells you",
    "hard_minutes": "gives no new clip",
}
FADES = {"0": "Not at all", "400": "Over 0.4 s", "1000": "Over 1 s", "2000": "Over 2 s", "5000": "Over 5 s"}
QUIETER = {
    "3": "A little quieter (3 dB)",
    "6": "Quieter (6 dB)",
    "12": "Much quieter (12 dB)",
    "20": "Very quiet (20 dB)",
}


def shown(user_id: int, study: Wellness) -> dict[str, str]:
    """Return what the fields of the form show. A limit that the study's has overtaken is left out."""
    chosen = wellness.choices(user_id)
    return {
        key: _text(value)
        for key, value in chosen.items()
        if key not in LIMITS or value == wellness.least(value, getattr(study, key))
    }


def change(user_id: int, form: Mapping[str, str], study: Wellness) -> dict[str, str]:
    """Store what the form says, all of it, and commit. An empty field is as the study sets it.

    Return what is wrong, as a sentence for each field; then nothing is stored.
    """
    chosen: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for key, rule in OF_PERSON.items():
        text = form.get(key, "").strip()
        if not text:
            continue
        try:
            chosen[key] = read(rule, text)
        except ValueError:
            problems[key] = f"“{text[:20]}” is not possible. It must be {rule.allowed}, or empty."
            continue
        limit = getattr(study, key) if key in LIMITS else None
        if limit is not None and chosen[key] > limit:
            problems[key] = f"The study {LIMITS[key]} after {limit} minutes. Choose {limit} or less, or leave it empty."
    if not problems:
        _store(user_id, chosen)
    return problems


def _store(user_id: int, chosen: Mapping[str, Any]) -> None:
    before = wellness.choices(user_id)
    changed: dict[str, Any] = {
        key: {"before": before.get(key), "after": chosen.get(key)}
        for key in OF_PERSON
        if before.get(key) != chosen.get(key)
    }
    if changed:
        values: dict[str, Any] = {"content": dict(chosen), "changed_at": sa.func.now()}
        insert = pg.insert(Preferences).values(user_id=user_id, **values)
        db.session.execute(insert.on_conflict_do_update(index_elements=["user_id"], set_=values))
        wellbeing_record.note(user_id, "preferences", **changed)
    db.session.commit()


def _text(value: Any) -> str:
    """Write a value as the form sends it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
