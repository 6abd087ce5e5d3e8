"""The review page: a reviewer listens to one clip, reads its transcript and labels it.

A GET changes nothing: it claims nothing, reveals nothing and stores no label. A form is answered with a redirect, so a
reload does not send it again. The page's script sends its forms to `app/views/desk.py` instead.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import access, clips
from app.codebooks.published import codebook_in_force
from app.models import CONFIDENCES, Assignment, Draft, db
from app.reviewing import claims, drafts, labelling, lists, records, screen, submitting
from app.reviewing.submission import slot_named
from app.views.queue import to_next_clip

blueprint = Blueprint("review", __name__, url_prefix="/review")

CLIP = "/<int(max=9223372036854775807):audio_id>"  # the largest Postgres bigint


@blueprint.get(CLIP)
def show(audio_id: int) -> ResponseReturnValue:
    """The clip with the newer of the reviewer's draft and stored label; for a reader by role, without a form.

    `slot` says in which study, if the reviewer has labelled the clip in several.
    """
    slot = claims.slot_of(g.viewer.user_id, audio_id, slot_named(request.args))
    if slot is None:
        return _show_without_slot(audio_id)
    page = _page(slot)
    records.note(g.viewer.user_id, "opened", audio_id, slot.assignment_id, verdicts_shown=labelling.sees_verdicts(slot))
    db.session.commit()
    return page


@blueprint.post(CLIP)
def submit(audio_id: int) -> ResponseReturnValue:
    outcome = submitting.submit(g.viewer.user_id, audio_id, request.form)
    if outcome.state == "unknown":
        abort(404)
    if outcome.slot is None:
        db.session.commit()
        return _lost_page(audio_id)
    if outcome.state == "stored":
        db.session.commit()
        flash(str(audio_id), "stored")
        return to_next_clip()
    page = _page(
        outcome.slot, submission=outcome.submission, problem=outcome.problem, conflict=outcome.state == "stale"
    )
    db.session.commit()
    return page, 422 if outcome.submission.problem else 409


@blueprint.post(CLIP + "/skip")
def skip(audio_id: int) -> ResponseReturnValue:
    return _aside(audio_id, submitting.skip(g.viewer.user_id, audio_id, request.form), "skipped")


@blueprint.post(CLIP + "/pass")
def pass_on(audio_id: int) -> ResponseReturnValue:
    return _aside(audio_id, submitting.pass_on(g.viewer.user_id, audio_id, request.form), "passed")


def _aside(audio_id: int, outcome: submitting.Outcome, message: str) -> ResponseReturnValue:
    if outcome.state == "unknown":
        abort(404)
    db.session.commit()
    flash(str(audio_id), message)
    return to_next_clip()


@blueprint.post(CLIP + "/take")
def take(audio_id: int) -> ResponseReturnValue:
    """Hold a clip again that one has set aside or let lapse; a lead may take any clip."""
    if not access.may_take(g.viewer, audio_id):
        abort(404)
    if not claims.take(g.viewer.user_id, audio_id):
        flash(
            f"Clip {audio_id} cannot be had: somebody else works on it or has labelled it, or no open study has it.",
            "info",
        )
        return redirect(url_for("queue.index", show="skipped"))
    return redirect(url_for("review.show", audio_id=audio_id))


@blueprint.post(CLIP + "/reveal")
def reveal(audio_id: int) -> ResponseReturnValue:
    """Show the model's verdicts from now on, if the study has it and an own label is stored."""
    slot = claims.slot_of(g.viewer.user_id, audio_id, lock=True)
    if slot is None:
        abort(404)
    if labelling.may_reveal(slot):
        labelling.reveal(slot)
    db.session.commit()
    return redirect(url_for("review.show", audio_id=audio_id))


def _page(slot: Assignment, **shown: Any) -> str:
    found = screen.context(slot, **shown)
    if found is None:
        abort(404)
    user_id = g.viewer.user_id
    return render_template("review.html", **found, progress=lists.progress(user_id), recent=lists.recent(user_id))


def _show_without_slot(audio_id: int) -> ResponseReturnValue:
    user = g.viewer
    if user.role not in access.READERS:
        return _lost_page(audio_id)
    clip = clips.load_clip(audio_id, ())
    if clip is None:
        abort(404)
    records.note(user.user_id, "opened", audio_id, None)
    db.session.commit()
    return render_template(
        "read.html",
        clip=clip,
        doubts=screen.doubts(clip),
        codebook=codebook_in_force(),
        verdicts=[],
        progress=lists.progress(user.user_id),
    )


def _lost_page(audio_id: int) -> ResponseReturnValue:
    """Say that somebody else has the clip, and show the draft that is kept; 404 for who never held the clip."""
    held = claims.once_held(g.viewer.user_id, audio_id)
    if held is None:
        abort(404)
    draft: Draft | None = drafts.find(held, g.viewer.user_id)
    kept = drafts.as_submission(draft) if draft is not None else None
    codebook = submitting.codebook_for(g.viewer.user_id, audio_id, None, None)
    page = render_template(
        "lost.html",
        audio_id=audio_id,
        kept=kept,
        names=[label.name for label in codebook.labels if kept is not None and label.code in kept.labels],
        answers=codebook.answers_in_words(kept.answers) if kept is not None else [],
        confidences=CONFIDENCES,
    )
    return page, 409
