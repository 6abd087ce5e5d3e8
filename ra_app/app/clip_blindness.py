"""Who of the leads may see verdicts and others' labels on the page of a clip, so that no label counts as blind wrongly.

A lead who holds a clip and has not labelled it is asked first. Whoever saw them there has an entry `revealed` in the
audit; a label that they give afterwards is not blind, in whatever study.
"""

from __future__ import annotations

from app import claims, clips, labelling, records
from app.models import User


def asks_first(viewer: User, audio_id: int) -> bool:
    """Whether this person holds the clip for a label that would not be blind any more."""
    slot = claims.slot_of(viewer.user_id, audio_id)
    if slot is None or slot.labels or labelling.sees_verdicts(slot):
        return False
    return not labelling.saw_verdicts(viewer.user_id, audio_id)


def note_seen(viewer: User, audio_id: int) -> None:
    """Record that this person sees the verdicts, once; in their slot too, if they hold the clip. Does not commit."""
    slot = claims.slot_of(viewer.user_id, audio_id, lock=True)
    if slot is not None and slot.revealed_at is None:
        labelling.reveal(slot)
    elif not labelling.saw_verdicts(viewer.user_id, audio_id):
        shown = [verdict.classification_id for verdict in clips.verdicts(audio_id)]
        records.note(viewer.user_id, "revealed", audio_id, None, classification_ids=shown)
