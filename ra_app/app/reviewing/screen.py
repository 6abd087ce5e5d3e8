"""What the review screen shows of a slot. Page and script get the same HTML, so there is one way to show a clip.

Review is blind: the model's verdicts are read only where `labelling.sees_verdicts` allows it.
"""

from __future__ import annotations

import base64
from typing import Any

from flask import g, render_template

from app import clips, quality
from app.codebooks.published import codebook_of
from app.models import CONFIDENCES, NOTE_LENGTH, Assignment
from app.reviewing import drafts, labelling, records
from app.reviewing.submission import Submission, of_label
from app.wellbeing import wellness

DESK = "_desk.html"


def desk(slot: Assignment, **shown: Any) -> str | None:
    """Return the HTML of the clip and its form, or None if the clip is gone. Arguments as of `context`."""
    found = context(slot, **shown)
    return render_template(DESK, **found) if found is not None else None


def context(
    slot: Assignment, submission: Submission | None = None, *, problem: str = "", conflict: bool = False
) -> dict[str, Any] | None:
    """Return what the templates need, or None if the clip is gone.

    Without a submission, the form holds the newer of the reviewer's draft and stored label.
    """
    clip = clips.load_clip(slot.audio_id, slot.study.shows)
    if clip is None:
        return None
    stored, draft = labelling.newest_label(slot), None
    if submission is None:
        draft = drafts.newer(slot.assignment_id, g.viewer.user_id, stored)
        submission = drafts.as_submission(draft) if draft is not None else of_label(stored)
    return {
        "slot": slot,
        "clip": clip,
        "peaks": base64.b64encode(clip.sound.peaks).decode(),
        "doubts": doubts(clip),
        "heard": records.heard(g.viewer.user_id, slot),
        "codebook": codebook_of(slot.study),
        "wellness": wellness.of(slot.study, g.viewer.user_id),
        "submission": submission,
        "problem": problem,
        "conflict": conflict,
        "draft": draft,
        "stored": stored,
        "revisions": len(slot.labels),
        "may_reveal": labelling.may_reveal(slot),
        "verdicts": clips.verdicts(slot.audio_id) if labelling.sees_verdicts(slot) else [],
        "confidences": CONFIDENCES,
        "note_length": NOTE_LENGTH,
    }


def doubts(clip: clips.Clip) -> list[str]:
    return quality.sentences(clip.reasons) if clip.doubtful else []
