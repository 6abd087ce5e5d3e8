"""What the app holds of a clip whose author withdrew, after the pipeline has erased it (`audio-pipeline clip erase`).

Nobody gets the clip any more; drafts go, and notes and reasons, which may quote it. Labels stay: they say what people
thought, not what was said. The receipt names the exports that hold the clip, whose files somebody must delete where
they were taken to. Nothing commits.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from app import acts
from app.models import Receipt, db
from app.removal import receipts

_OF_CLIP = "assignment_id IN (SELECT assignment_id FROM ra_assignments WHERE audio_id = :audio_id)"
_OF_ITEMS = "item_id IN (SELECT item_id FROM ra_items WHERE audio_id = :audio_id)"
# What is changed, by what the receipt calls it. Each counts what it would change, then changes the same rows.
_STEPS = {
    "slots": (
        "ra_assignments",
        "audio_id = :audio_id AND state IN ('free', 'open', 'skipped')",
        "SET state = 'withdrawn', user_id = NULL, claimed_until = NULL, opened_at = NULL",
    ),
    "items": ("ra_items", "audio_id = :audio_id AND withdrawn_at IS NULL", "SET withdrawn_at = now()"),
    "notes": ("ra_labels", f"note <> '' AND {_OF_CLIP}", "SET note = ''"),
    "references": ("ra_references", "reason <> '' AND audio_id = :audio_id", "SET reason = ''"),
    "decisions": ("ra_decisions", f"reason <> 'erased' AND {_OF_ITEMS}", "SET reason = 'erased'"),
}
_EXPORTS = """
    SELECT name FROM ra_exports WHERE finished_at IS NOT NULL
    AND study_ids && ARRAY(SELECT study_id FROM ra_items WHERE audio_id = :audio_id) ORDER BY name
"""


class NotErasedError(Exception):
    """The pipeline has no such clip, or has not erased it; the message is a sentence."""


def erase(audio_id: int) -> dict[str, Any]:
    """Remove what the app holds of the clip, and return the receipt's content.

    A second call finds nothing left, changes nothing, and returns the same.

    Raises
    ------
    NotErasedError
        The pipeline must erase the clip first.
    """
    values = {"audio_id": audio_id}
    at = _erased_at(audio_id)
    db.session.execute(sa.text("SELECT FROM ra_assignments WHERE audio_id = :audio_id FOR UPDATE"), values)
    counts = {name: _count(table, which, audio_id) for name, (table, which, _) in _STEPS.items()}
    counts["drafts"] = _count("ra_drafts", _OF_CLIP, audio_id)
    before = db.session.scalar(
        sa.select(Receipt)
        .where(Receipt.kind == "erase", Receipt.subject == str(audio_id))
        .order_by(Receipt.receipt_id)
        .limit(1)
    )
    if before is not None and not any(counts.values()):
        return {**before.content, "receipt": before.receipt_id}
    content = {
        "audio_id": audio_id,
        "erased_at": at.isoformat(timespec="seconds"),
        "changed": counts,
        "labels_kept": _count("ra_labels", _OF_CLIP, audio_id),
        "exports": list(db.session.scalars(sa.text(_EXPORTS), values)),
    }
    receipt = receipts.open_receipt("erase", by=None, subject=str(audio_id), content=content)
    db.session.execute(sa.text(f"DELETE FROM ra_drafts WHERE {_OF_CLIP}"), values)  # noqa: S608 - a constant
    for table, which, change in _STEPS.values():
        db.session.execute(sa.text(f"UPDATE {table} {change} WHERE {which}"), values)
    acts.note(None, "erased", subject=str(audio_id))
    return {**content, "receipt": receipt.receipt_id}


def _erased_at(audio_id: int) -> Any:
    row = db.session.execute(
        sa.text("SELECT erased_at FROM audio_files WHERE audio_id = :audio_id"), {"audio_id": audio_id}
    ).first()
    if row is None:
        raise NotErasedError(f"There is no clip {audio_id}.")
    if row.erased_at is None:
        raise NotErasedError(
            f"The pipeline still has clip {audio_id}. Erase it there first: audio-pipeline clip erase {audio_id}. "
            "Nothing is changed."
        )
    return row.erased_at


def _count(table: str, which: str, audio_id: int) -> int:
    query = sa.text(f"SELECT count(*) FROM {table} WHERE {which}")  # noqa: S608 - constants
    return int(db.session.scalar(query, {"audio_id": audio_id}) or 0)
