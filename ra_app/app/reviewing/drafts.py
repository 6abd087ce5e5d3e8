"""Drafts on the server: the unsent content of a form, kept until its label is stored. A draft belongs to one person."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from app.models import Draft, LabelRow, db
from app.reviewing.submission import Submission, answers_of


def keep(assignment_id: int, user_id: int, submission: Submission, base: int | None) -> int:
    """Keep this content instead of an earlier draft, and return the time of that, as `at` does. Does not commit.

    `base` is the label that it changes.
    """
    values: dict[str, Any] = {
        "content": {
            "labels": list(submission.labels),
            "confidence": submission.confidence,
            "note": submission.note,
            "spans": submission.spans,
            "answers": submission.answers,
        },
        "base_label_id": base,
        "updated_at": sa.func.now(),
    }
    insert = pg.insert(Draft).values(assignment_id=assignment_id, user_id=user_id, **values)
    kept = insert.on_conflict_do_update(index_elements=["assignment_id", "user_id"], set_=values)
    return at(db.session.execute(kept.returning(Draft.updated_at)).scalar_one())


def at(moment: datetime) -> int:
    """Return milliseconds since 1970: with them the page tells drafts apart."""
    return int(moment.timestamp() * 1000)


def find(assignment_id: int, user_id: int) -> Draft | None:
    query = sa.select(Draft).where(Draft.assignment_id == assignment_id, Draft.user_id == user_id)
    return db.session.scalar(query.execution_options(populate_existing=True))


def newer(assignment_id: int, user_id: int, stored: LabelRow | None) -> Draft | None:
    """Return the draft, if it is newer than the stored label."""
    draft = find(assignment_id, user_id)
    if draft is None or (stored is not None and draft.updated_at <= stored.created_at):
        return None
    return draft


def forget(assignment_id: int, user_id: int) -> None:
    db.session.execute(sa.delete(Draft).where(Draft.assignment_id == assignment_id, Draft.user_id == user_id))


def as_submission(draft: Draft) -> Submission:
    content = draft.content
    return Submission(
        labels=tuple(content.get("labels") or ()),
        answers=answers_of(content.get("answers") or {}),
        confidence=content.get("confidence"),
        note=content.get("note") or "",
        spans=tuple((start, end) for start, end in content.get("spans") or ()),
        base=draft.base_label_id,
    )
