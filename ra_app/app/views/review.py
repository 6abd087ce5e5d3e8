"""The review page: a reviewer listens to one clip, reads its transcript and labels it.

A GET changes nothing: it claims nothing, reveals nothing and stores no label. Review is blind: this module reads the
model's verdicts only where `labelling.sees_verdicts` allows it. A form is answered with a redirect, so a reload does
not send it again. Nothing that a reviewer sends is lost: what cannot be stored as a label is kept as a draft, and the
page says why.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import access, claims, clips, drafts, labelling, lists, quality, records
from app.models import CONFIDENCES, NOTE_LENGTH, Assignment, Draft, Study, db
from app.published import codebook_in_force, codebook_of
from app.submission import Submission, of_label, read_submission
from app.views.queue import to_next_clip

blueprint = Blueprint("review", __name__, url_prefix="/review")

CLIP = "/<int(max=9223372036854775807):audio_id>"  # the largest Postgres bigint


@blueprint.get(CLIP)
def show(audio_id: int) -> ResponseReturnValue:
    """The clip with the newer of the reviewer's draft and stored label; for a reader by role, without a form."""
    slot = claims.slot_of(g.viewer.user_id, audio_id)
    if slot is None:
        return _show_without_slot(audio_id)
    stored = labelling.newest_label(slot)
    draft = drafts.newer(slot.assignment_id, g.viewer.user_id, stored)
    page = _page(slot, drafts.as_submission(draft) if draft is not None else of_label(stored), draft=draft)
    records.note(g.viewer.user_id, "opened", audio_id, slot.assignment_id, verdicts_shown=labelling.sees_verdicts(slot))
    db.session.commit()
    return page


@blueprint.post(CLIP)
def submit(audio_id: int) -> ResponseReturnValue:
    codebook = codebook_in_force()  # before a row is locked: the first time it commits
    slot = _held(audio_id)
    if slot is not None:
        codebook = codebook_of(slot.study)
    submission = read_submission(request.form, request.form.getlist("label"), codebook)
    if slot is None:
        return _lost(audio_id, submission)
    if labelling.is_stored(slot, submission):
        return to_next_clip()
    records.report(slot, g.viewer.user_id, request.form)
    if submission.problem is not None:
        return _refuse(slot, submission, 422)
    if slot.study.state == "closed":
        return _refuse(slot, submission, 409, "This study is closed and takes no more labels. Your draft is kept.")
    if labelling.is_stale(slot, submission):
        return _conflict(slot, submission)
    labelling.store(slot, submission, codebook)
    db.session.commit()
    flash(str(audio_id), "stored")
    return to_next_clip()


@blueprint.post(CLIP + "/skip")
def skip(audio_id: int) -> ResponseReturnValue:
    codebook_in_force()  # before a row is locked: the first time it commits
    slot = _held(audio_id)
    if slot is not None and slot.state == "open":
        submission = read_submission(request.form, request.form.getlist("label"), codebook_of(slot.study))
        records.report(slot, g.viewer.user_id, request.form)
        if submission.labels or submission.note:
            drafts.keep(slot.assignment_id, g.viewer.user_id, submission, None)  # an open slot has no label yet
        labelling.skip(slot)
        flash(str(audio_id), "skipped")
    db.session.commit()
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


def _held(audio_id: int) -> Assignment | None:
    """Return the viewer's slot, locked. A lapsed one that somebody has given back is taken again; None: it is lost."""
    user = g.viewer
    slot = claims.slot_of(user.user_id, audio_id, lock=True)
    if slot is None:
        if claims.once_held(user.user_id, audio_id) is None:
            abort(404)
        if claims.take(user.user_id, audio_id):
            slot = claims.slot_of(user.user_id, audio_id, lock=True)
    return slot


def _show_without_slot(audio_id: int) -> ResponseReturnValue:
    user = g.viewer
    held = claims.once_held(user.user_id, audio_id)
    if user.role in access.READERS:
        clip = clips.load_clip(audio_id, ())
        if clip is None:
            abort(404)
        records.note(user.user_id, "opened", audio_id, None)
        db.session.commit()
        return render_template(
            "read.html",
            clip=clip,
            doubts=_doubts(clip),
            codebook=codebook_in_force(),
            verdicts=[],
            progress=lists.progress(user.user_id),
        )
    if held is None:
        abort(404)
    return _lost_page(audio_id, drafts.find(held, user.user_id))


def _lost(audio_id: int, submission: Submission) -> ResponseReturnValue:
    """Keep the work on a clip that went to somebody else: it is a draft then, not a label."""
    held = claims.once_held(g.viewer.user_id, audio_id)
    if held is not None:
        drafts.keep(held, g.viewer.user_id, submission, None)
    db.session.commit()
    return _lost_page(audio_id, drafts.find(held, g.viewer.user_id) if held is not None else None)


def _lost_page(audio_id: int, draft: Draft | None) -> ResponseReturnValue:
    codebook = codebook_in_force()
    kept = drafts.as_submission(draft) if draft is not None else None
    names = [label.name for label in codebook.labels if kept is not None and label.code in kept.labels]
    page = render_template("lost.html", audio_id=audio_id, kept=kept, names=names, confidences=CONFIDENCES)
    return page, 409


def _refuse(slot: Assignment, submission: Submission, code: int, problem: str = "") -> ResponseReturnValue:
    """Show the form again with what was sent, and keep it as a draft. Nothing is stored as a label."""
    base = submission.base if any(label.label_id == submission.base for label in slot.labels) else None
    drafts.keep(slot.assignment_id, g.viewer.user_id, submission, base)
    page = _page(slot, submission, problem=problem or submission.problem)
    db.session.commit()
    return page, code


def _conflict(slot: Assignment, submission: Submission) -> ResponseReturnValue:
    """Show what was stored meanwhile beside what was sent now; the next submit is based on the former."""
    stored = labelling.newest_label(slot)
    base = stored.label_id if stored is not None else None
    drafts.keep(slot.assignment_id, g.viewer.user_id, submission, base)
    fresh = Submission(labels=submission.labels, confidence=submission.confidence, note=submission.note, base=base)
    page = _page(slot, fresh, conflict=True)
    db.session.commit()
    return page, 409


def _page(
    slot: Assignment,
    submission: Submission,
    *,
    draft: Draft | None = None,
    problem: str | None = None,
    conflict: bool = False,
) -> str:
    study: Study = slot.study
    clip = clips.load_clip(slot.audio_id, study.shows)
    if clip is None:
        abort(404)
    context: dict[str, Any] = {
        "codebook": codebook_of(study),
        "slot": slot,
        "submission": submission,
        "problem": problem,
        "conflict": conflict,
        "draft": draft,
        "stored": labelling.newest_label(slot),
        "revisions": len(slot.labels),
        "may_reveal": labelling.may_reveal(slot),
        "verdicts": clips.verdicts(slot.audio_id) if labelling.sees_verdicts(slot) else [],
    }
    return render_template(
        "review.html",
        clip=clip,
        doubts=_doubts(clip),
        progress=lists.progress(g.viewer.user_id),
        confidences=CONFIDENCES,
        note_length=NOTE_LENGTH,
        **context,
    )


def _doubts(clip: clips.Clip) -> list[str]:
    return quality.sentences(clip.reasons) if clip.doubtful else []
