"""The rules for writing assignments and labels: opening, skipping and labelling a clip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from app.codebook import Codebook
from app.models import CONFIDENCES, NOTE_LENGTH, Assignment, LabelRow, db

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # Postgres refuses NUL; the others make no sense in a note


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The content of a label form. If the form is not valid, `problem` is the sentence to show to the reviewer."""

    submission_key: UUID = field(default_factory=uuid4)
    labels: tuple[str, ...] = ()
    confidence: int | None = None
    note: str = ""
    problem: str | None = None


def read_submission(form: Mapping[str, str], codes: list[str], codebook: Codebook) -> Submission:
    """Check a form. `codes` are the label codes that the browser sent; they are not checked yet."""
    known = tuple(label.code for label in codebook.labels if label.code in codes)
    note = _CONTROL.sub("", form.get("note", "").replace("\r\n", "\n")).strip()
    confidence = form.get("confidence", "")
    problem = codebook.problem(dict.fromkeys(codes))
    if form.get("codebook_version") != codebook.version:
        problem = "The codebook has changed since you opened this clip. Check your choice and submit again."
    elif len(note) > NOTE_LENGTH:
        problem = f"The note has {len(note)} characters. Shorten it to {NOTE_LENGTH} or fewer."
    elif confidence and confidence not in {str(value) for value in CONFIDENCES}:
        problem = "Choose one of the three confidences: low, medium or high."
    try:
        key = UUID(form.get("submission_key", ""))
    except ValueError:
        key, problem = uuid4(), problem or "The form was incomplete. Submit it again."
    return Submission(
        submission_key=key,
        labels=known,
        confidence=int(confidence) if confidence in {"1", "2", "3"} else None,
        note=note,
        problem=problem,
    )


def open_assignment(user_id: int, audio_id: int) -> Assignment:
    """Return this user's assignment of the clip, and lock its row until the transaction ends. Create it if missing."""
    insert = pg.insert(Assignment).values(audio_id=audio_id, user_id=user_id)
    db.session.execute(insert.on_conflict_do_nothing(index_elements=["audio_id", "user_id"]))
    query = sa.select(Assignment).where(Assignment.audio_id == audio_id, Assignment.user_id == user_id)
    return db.session.scalars(query.with_for_update()).one()


def newest_label(assignment: Assignment) -> LabelRow | None:
    return assignment.labels[-1] if assignment.labels else None


def reveal(assignment: Assignment) -> bool:
    """Whether this reviewer may see the verdicts. If yes, later labels of this assignment do not count as blind."""
    if not assignment.labels:
        return False
    if assignment.revealed_at is None:
        assignment.revealed_at = _now()
    return True


def store(assignment: Assignment, submission: Submission, codebook: Codebook) -> None:
    """Add a label. A form that arrives twice (double click, retry) is stored once."""
    if any(label.submission_key == submission.submission_key for label in assignment.labels):
        return
    before = newest_label(assignment)
    row = LabelRow(
        submission_key=submission.submission_key,
        codebook_id=codebook.id,
        codebook_version=codebook.version,
        labels=list(submission.labels),
        confidence=submission.confidence,
        note=submission.note,
        blind=assignment.revealed_at is None,
        revision_of=before.label_id if before is not None else None,
    )
    assignment.labels.append(row)
    assignment.state = "submitted"
    if assignment.submitted_at is None:
        assignment.submitted_at = _now()


def skip(assignment: Assignment) -> None:
    """Set the clip aside. No reason is needed. An assignment that has a label keeps its state and label."""
    if assignment.state == "open":
        assignment.state = "skipped"


def _now() -> Any:
    return sa.func.now()
