"""The rules for writing labels: what a submission may replace, setting aside, and when verdicts may be seen."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from app import clips, intervals
from app.codebooks.codebook import Codebook
from app.models import Assignment, AuditEntry, Decline, LabelRow, db
from app.reviewing import claims, drafts, records
from app.reviewing.submission import Submission


def newest_label(slot: Assignment) -> LabelRow | None:
    return slot.labels[-1] if slot.labels else None


def is_stored(slot: Assignment, submission: Submission) -> bool:
    """Whether this form has arrived before: a double click, or a retry after an answer that was lost."""
    return any(label.submission_key == submission.submission_key for label in slot.labels)


def is_stale(slot: Assignment, submission: Submission) -> bool:
    """Whether another label was stored since the page of this form was made, for example from a second tab."""
    newest = newest_label(slot)
    return (newest.label_id if newest is not None else None) != submission.base


def sees_verdicts(slot: Assignment) -> bool:
    """Whether this reviewer sees the model's verdicts on this clip: the only place that decides it."""
    if slot.study.mode == "assisted":
        return True
    return slot.study.mode == "reveal" and slot.revealed_at is not None


def has_seen_verdicts(slot: Assignment) -> bool:
    """Whether this reviewer knows what the model said of this clip, from this study or from anywhere else."""
    return sees_verdicts(slot) or saw_verdicts(_holder(slot), slot.audio_id)


def saw_verdicts(user_id: int, audio_id: int) -> bool:
    """Whether verdicts on this clip were shown to this person anywhere: the audit has it.

    That is, on the screen of a study, on the page of a decision, or on the clip's own page. It stays true when the slot
    of back then went to somebody else.
    """
    shown = AuditEntry.event == "revealed", AuditEntry.details["verdicts_shown"].as_boolean()
    seen = sa.select(AuditEntry.entry_id).where(
        AuditEntry.user_id == user_id, AuditEntry.audio_id == audio_id, sa.or_(*shown)
    )
    return bool(db.session.scalar(sa.select(sa.exists(seen))))


def may_reveal(slot: Assignment) -> bool:
    """Whether the reviewer may ask for the verdicts: in a study that has it, once an own label is stored."""
    return slot.study.mode == "reveal" and slot.revealed_at is None and bool(slot.labels)


def reveal(slot: Assignment) -> None:
    """From now on the reviewer sees the verdicts, and later labels of this slot do not count as blind."""
    slot.revealed_at = _now()
    shown = [verdict.classification_id for verdict in clips.verdicts(slot.audio_id)]
    records.note(_holder(slot), "revealed", slot.audio_id, slot.assignment_id, classification_ids=shown)


def store(slot: Assignment, submission: Submission, codebook: Codebook) -> None:
    """Add a label to a locked slot. The caller has checked `is_stored` and `is_stale`."""
    user_id, before = _holder(slot), newest_label(slot)
    parts = records.heard(user_id, slot)
    shown = set(submission.classification_ids) if sees_verdicts(slot) else set()
    current = {verdict.classification_id for verdict in clips.verdicts(slot.audio_id)}
    slot.labels.append(
        LabelRow(
            submission_key=submission.submission_key,
            codebook_id=codebook.id,
            codebook_version=codebook.version,
            codebook_sha256=codebook.sha256(),
            labels=list(submission.labels),
            answers=codebook.answers_to_store(submission.labels, submission.answers),
            confidence=submission.confidence,
            note=submission.note,
            blind=not has_seen_verdicts(slot),
            mode=slot.study.mode,
            transcript_id=clips.own_transcript(slot.audio_id, submission.transcript_id),
            classification_ids=sorted(shown & current),
            revision_of=before.label_id if before is not None else None,
            active_ms=slot.active_ms,
            heard_ms=intervals.length_ms(parts),
            heard=parts,
            spans=[list(span) for span in submission.spans],
        )
    )
    slot.state = "submitted"
    slot.claimed_until = None
    if slot.submitted_at is None:
        slot.submitted_at = _now()
    drafts.forget(slot.assignment_id, user_id)
    claims.take_back_decline(slot.assignment_id, user_id)
    records.note(user_id, "labelled", slot.audio_id, slot.assignment_id)


def skip(slot: Assignment) -> None:
    """Set the clip aside: others may take the slot now. No reason is needed. A labelled slot keeps its state."""
    if slot.state != "open":
        return
    user_id = _holder(slot)
    slot.state = "skipped"
    slot.claimed_until = None
    _decline(slot, user_id, "skip")
    records.note(user_id, "skipped", slot.audio_id, slot.assignment_id)


def pass_on(slot: Assignment) -> None:
    """Give the clip back for good: it goes to others, and is never offered to this person again.

    No reason is needed, and it counts nowhere. A labelled slot keeps its state.
    """
    if slot.state != "open":
        return
    user_id = _holder(slot)
    slot.state, slot.user_id = "free", None
    slot.claimed_until = slot.opened_at = None
    slot.active_ms = 0
    _decline(slot, user_id, "pass")
    records.note(user_id, "passed", slot.audio_id, slot.assignment_id)


def _decline(slot: Assignment, user_id: int, kind: str) -> None:
    insert = pg.insert(Decline).values(item_id=slot.item_id, user_id=user_id, kind=kind)
    changed = insert.on_conflict_do_update(index_elements=["item_id", "user_id"], set_={"kind": kind})
    db.session.execute(changed)


def _holder(slot: Assignment) -> int:
    if slot.user_id is None:
        raise ValueError(f"nobody holds the assignment {slot.assignment_id}")
    return slot.user_id


def _now() -> Any:
    return sa.func.now()
