"""Who of the leads may see verdicts and others' labels on the page of a clip, so that no label counts as blind wrongly.

A lead who holds a clip and has not labelled it is asked first. Whoever saw them there has an entry `revealed` in the
audit; a label that they give afterwards is not blind, in whatever study.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from app import clips
from app.models import Assignment, User, db
from app.reviewing import labelling, records


def asks_first(viewer: User, audio_id: int) -> bool:
    """Whether this person holds the clip for a label that would not be blind any more."""
    waiting = [slot for slot in _slots(viewer, audio_id) if not slot.labels and not labelling.sees_verdicts(slot)]
    return bool(waiting) and not labelling.saw_verdicts(viewer.user_id, audio_id)


def note_seen(viewer: User, audio_id: int) -> None:
    """Record that this person sees the verdicts, once; in the slots too that they hold. Does not commit."""
    fresh = [slot for slot in _slots(viewer, audio_id, lock=True) if slot.revealed_at is None]
    for slot in fresh:
        labelling.reveal(slot)
    if not fresh and not labelling.saw_verdicts(viewer.user_id, audio_id):
        shown = [verdict.classification_id for verdict in clips.verdicts(audio_id)]
        records.note(viewer.user_id, "revealed", audio_id, None, classification_ids=shown)


def listed(viewer: User, audio_ids: Iterable[int]) -> set[int]:
    """Return those of the clips whose verdicts a list may show to this person, and record that they see them.

    Left out are clips that they hold for a label, as on the clip's own page. Does not commit.
    """
    shown = {audio_id for audio_id in audio_ids if not asks_first(viewer, audio_id)}
    for audio_id in sorted(shown):
        note_seen(viewer, audio_id)
    return shown


def _slots(viewer: User, audio_id: int, *, lock: bool = False) -> list[Assignment]:
    query = sa.select(Assignment).where(Assignment.audio_id == audio_id, Assignment.user_id == viewer.user_id)
    if lock:
        query = query.with_for_update(of=Assignment).execution_options(populate_existing=True)
    return list(db.session.scalars(query.order_by(Assignment.assignment_id)))
