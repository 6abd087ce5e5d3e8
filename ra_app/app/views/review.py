"""The review page: a reviewer listens to one clip, reads its transcript and labels it.

Review is blind: this module reads the model's verdicts only after the reviewer's first label on the clip is stored.
Submit and skip each run in one transaction. They answer with a redirect, so a reload does not send the form again.
"""

from __future__ import annotations

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import clips, labelling, quality
from app.labelling import Submission
from app.models import CONFIDENCES, NOTE_LENGTH, Assignment, LabelRow, db
from app.state import state

blueprint = Blueprint("review", __name__, url_prefix="/review")

CLIP = "/<int(max=9223372036854775807):audio_id>"  # the largest Postgres bigint


@blueprint.get(CLIP)
def show(audio_id: int) -> ResponseReturnValue:
    clip, assignment = _open(audio_id)
    revealed = labelling.reveal(assignment)
    page = _page(clip, assignment, _as_submission(labelling.newest_label(assignment)), revealed=revealed)
    db.session.commit()
    return page


@blueprint.post(CLIP)
def submit(audio_id: int) -> ResponseReturnValue:
    clip, assignment = _open(audio_id)
    codebook = state().codebook
    submission = labelling.read_submission(request.form, request.form.getlist("label"), codebook)
    if submission.problem is not None:
        page = _page(clip, assignment, submission, revealed=assignment.revealed_at is not None)
        db.session.commit()
        return page, 422
    first = not assignment.labels
    labelling.store(assignment, submission, codebook)
    db.session.commit()
    flash(str(audio_id), "stored")
    if not first:
        return redirect(url_for("queue.index", show="done"))
    return redirect(url_for("queue.next_clip", after=audio_id))


@blueprint.post(CLIP + "/skip")
def skip(audio_id: int) -> ResponseReturnValue:
    _, assignment = _open(audio_id)
    labelling.skip(assignment)
    db.session.commit()
    flash(str(audio_id), "skipped")
    return redirect(url_for("queue.next_clip", after=audio_id))


def _open(audio_id: int) -> tuple[clips.Clip, Assignment]:
    user_id = g.viewer.user_id
    clip = clips.load_clip(user_id, audio_id)
    if clip is None:
        abort(404)
    return clip, labelling.open_assignment(user_id, audio_id)


def _as_submission(label: LabelRow | None) -> Submission:
    if label is None:
        return Submission()
    return Submission(labels=tuple(label.labels), confidence=label.confidence, note=label.note)


def _page(clip: clips.Clip, assignment: Assignment, submission: Submission, *, revealed: bool) -> str:
    return render_template(
        "review.html",
        clip=clip,
        doubts=quality.sentences(clip.reasons) if clip.doubtful else [],
        codebook=state().codebook,
        submission=submission,
        stored=labelling.newest_label(assignment),
        revisions=len(assignment.labels),
        verdicts=clips.verdicts(clip.audio_id) if revealed else [],
        progress=clips.progress(g.viewer.user_id),
        confidences=CONFIDENCES,
        note_length=NOTE_LENGTH,
    )
