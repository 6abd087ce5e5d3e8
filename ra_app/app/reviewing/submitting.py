"""What a form of the review page does to a slot, whether it came from the page itself or from its script.

Nothing that a reviewer sends is lost: what cannot be stored as a label is kept as a draft, and the outcome says why.
The caller commits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal
from uuid import uuid4

from werkzeug.datastructures import MultiDict

from app.codebooks.codebook import Codebook
from app.codebooks.published import codebook_in_force, codebook_of
from app.models import Assignment, db
from app.reviewing import claims, drafts, labelling, records
from app.reviewing.submission import Submission, read_submission, slot_named

# stored: a label. aside: set aside or passed. refused: see `problem`. stale: a newer label is stored, which the next
# submission changes. lost: somebody else has the clip. unknown: this person never held it.
State = Literal["stored", "aside", "refused", "stale", "lost", "unknown"]
CLOSED = "This study is closed and takes no more labels. Your draft is kept."


@dataclass(frozen=True, kw_only=True)
class Outcome:
    state: State
    submission: Submission
    slot: Assignment | None = None
    problem: str = ""


def submit(user_id: int, audio_id: int, form: MultiDict[str, str]) -> Outcome:
    """Store the form as a label of this person's slot. A form that arrives twice is stored once."""
    named = slot_named(form)
    slot, codebook = _held(user_id, audio_id, named)
    submission = read_submission(form, form.getlist("label"), codebook)
    if slot is None:
        return _without_slot(user_id, audio_id, named, submission)
    if labelling.is_stored(slot, submission):
        return Outcome(state="stored", slot=slot, submission=submission)
    records.report(slot, user_id, form)
    problem = submission.problem or (CLOSED if slot.study.state == "closed" else "")
    if problem:
        base = submission.base if any(label.label_id == submission.base for label in slot.labels) else None
        drafts.keep(slot.assignment_id, user_id, submission, base)
        return Outcome(state="refused", slot=slot, submission=submission, problem=problem)
    if labelling.is_stale(slot, submission):
        stored = labelling.newest_label(slot)
        fresh = replace(submission, submission_key=uuid4(), base=stored.label_id if stored is not None else None)
        drafts.keep(slot.assignment_id, user_id, fresh, fresh.base)
        return Outcome(state="stale", slot=slot, submission=fresh)
    labelling.store(slot, submission, codebook)
    return Outcome(state="stored", slot=slot, submission=submission)


def skip(user_id: int, audio_id: int, form: MultiDict[str, str]) -> Outcome:
    """Set the clip aside, and keep what was chosen and written as a draft."""
    return _decline(user_id, audio_id, form, labelling.skip)


def pass_on(user_id: int, audio_id: int, form: MultiDict[str, str]) -> Outcome:
    """Give the clip back for good, and keep what was chosen and written as a draft."""
    return _decline(user_id, audio_id, form, labelling.pass_on)


def _decline(user_id: int, audio_id: int, form: MultiDict[str, str], decline: Callable[[Assignment], None]) -> Outcome:
    """A form that arrives twice finds the slot declined; it must not take it again."""
    codebook_in_force()  # before a row is locked: the first time it commits
    named = slot_named(form)
    slot = claims.slot_of(user_id, audio_id, named, lock=True)
    submission = read_submission(form, form.getlist("label"), codebook_for(user_id, audio_id, named, slot))
    held = slot.assignment_id if slot is not None else claims.once_held(user_id, audio_id, named)
    if held is None:
        return Outcome(state="unknown", submission=submission)
    begun = submission.labels or submission.note or submission.spans or submission.confidence or submission.answers
    if begun and (slot is None or slot.state == "open"):
        drafts.keep(held, user_id, submission, None)  # an open slot has no label yet
    if slot is not None and slot.state == "open":
        records.report(slot, user_id, form)
        decline(slot)
    return Outcome(state="aside", slot=slot, submission=submission)


def _held(user_id: int, audio_id: int, named: int | None) -> tuple[Assignment | None, Codebook]:
    """Return the person's slot, locked, and its codebook.

    A lapsed slot that somebody has given back is taken again. None: the clip is lost to them, or never was theirs.
    """
    codebook_in_force()
    slot = claims.slot_of(user_id, audio_id, named, lock=True)
    once = claims.once_held(user_id, audio_id, named) if slot is None else None
    if once is not None and claims.take(user_id, audio_id, named):
        slot = claims.slot_of(user_id, audio_id, named, lock=True)
    return slot, codebook_for(user_id, audio_id, named, slot)


def codebook_for(user_id: int, audio_id: int, named: int | None, slot: Assignment | None) -> Codebook:
    """Return the codebook of the slot's study; without a slot, that of the study in which they once held the clip."""
    if slot is None:
        held = claims.once_held(user_id, audio_id, named)
        slot = db.session.get(Assignment, held) if held is not None else None
    return codebook_of(slot.study) if slot is not None else codebook_in_force()


def _without_slot(user_id: int, audio_id: int, named: int | None, submission: Submission) -> Outcome:
    """Keep the work on a clip that went to somebody else: it is a draft then, not a label."""
    held = claims.once_held(user_id, audio_id, named)
    if held is None:
        return Outcome(state="unknown", submission=submission)
    drafts.keep(held, user_id, submission, None)
    return Outcome(state="lost", submission=submission)
