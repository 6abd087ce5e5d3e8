"""Decisions on clips whose coders disagree: the queue, and a page for each clip with the labels side by side.

The coders stand there without a name, in an order that is the clip's own, and the model's verdict only if it is asked
for. A form says on which labels and after which decision it was made: if something changed since, it is not stored.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import clips
from app.codebooks.codebook import Codebook
from app.codebooks.published import codebook_of
from app.models import CONFIDENCES, Study, db
from app.results import decisions, judgements, references
from app.results.decisions import Disagreed
from app.reviewing import records, screen
from app.reviewing.submission import cleaned, sent_answers
from app.roles import LEADS, needs
from app.views.studies import STUDY, found

blueprint = Blueprint("decisions", __name__, url_prefix="/studies")

ITEM = STUDY + "/decisions/<int(max=9223372036854775807):item_id>"
CHANGED = (
    "Something has changed since you opened this page: a coder changed a label, or somebody else decided. Look at the "
    "clip as it is now, and send the form again if you still decide so."
)


@blueprint.get(STUDY + "/decisions")
@needs(*LEADS)
def index(study_id: int) -> ResponseReturnValue:
    study = found(study_id)
    which = judgements.which_of(study)
    codebook = codebook_of(study)
    show, code = request.args.get("show", "open"), request.args.get("label") or None
    after = request.args.get("after", 0, type=int)
    if show not in decisions.STANDINGS or not 0 <= after < 2**63:
        abort(404)
    listed = decisions.waiting(study, which, show, code=code, after=after, limit=decisions.PAGE_SIZE + 1)
    return render_template(
        "decisions.html",
        study=study,
        codebook=codebook,
        lines=listed[: decisions.PAGE_SIZE],
        more=len(listed) > decisions.PAGE_SIZE,
        counts=decisions.counts(study, which, code),
        most=decisions.MOST_COUNTED,
        standings=decisions.STANDINGS,
        show=show,
        code=code,
    )


@blueprint.get(ITEM)
@needs(*LEADS)
def show(study_id: int, item_id: int) -> ResponseReturnValue:
    study = found(study_id)
    disagreed = _disagreed(study, item_id)
    seen = "verdict" in request.args
    records.note(g.viewer.user_id, "opened", disagreed.audio_id, None, verdicts_shown=seen)
    db.session.commit()
    return _page(study, disagreed)


@blueprint.post(ITEM)
@needs(*LEADS)
def decide(study_id: int, item_id: int) -> ResponseReturnValue:
    """Store a decision, and go on to the next clip."""
    study, which = found(study_id), judgements.which_of(found(study_id))
    usual = codebook_of(study)  # before a row is locked: the first time it commits
    item = decisions.locked(study, item_id)
    disagreed = _disagreed(study, item_id)
    if item is None:
        abort(404)
    codebook = decisions.codebook_to_use(disagreed.label_ids, usual)
    codes, reason = request.form.getlist("label"), cleaned(request.form.get("reason", ""))
    answers = sent_answers(request.form, codebook)
    problem = _problem(codebook, codes, reason) or codebook.answers_problem(codes, answers)
    if problem is not None:
        db.session.rollback()
        return _page(study, disagreed, problem=problem), 422
    if _basis(disagreed) != (request.form.get("label_ids"), request.form.get("decision_id")):
        db.session.rollback()
        return _page(study, disagreed, problem=CHANGED), 409
    decisions.put(study, item, g.viewer, codebook, codes, answers, reason, disagreed.label_ids)
    if "reference" in request.form:
        references.put(study, codebook, g.viewer, item.audio_id, codes, reason)
    db.session.commit()
    flash(f"The decision on clip {disagreed.audio_id} is stored.", "info")
    return _to_next(study, which, item_id)


def _to_next(study: Study, which: judgements.Which, item_id: int) -> ResponseReturnValue:
    """Go to the next clip of the list from which one came, or back to the list if there is none behind this one."""
    standing, code = request.form.get("show", "open"), request.form.get("code") or None
    if standing not in {"open", "again"}:
        standing = "open"
    for after in (item_id, 0):
        following = decisions.waiting(study, which, standing, code=code, after=after, limit=1)
        if following:
            item = following[0].item_id
            return redirect(url_for("decisions.show", study_id=study.study_id, item_id=item, show=standing, label=code))
    return redirect(url_for("decisions.index", study_id=study.study_id, show=standing, label=code))


def _problem(codebook: Codebook, codes: list[str], reason: str) -> str | None:
    if not codes:
        return "Choose at least one label."
    if not reason:
        return "Write the reason: whoever reads the decision later must be able to follow it."
    if len(reason) > decisions.REASON_LENGTH:
        return f"The reason has {len(reason)} characters. Shorten it to {decisions.REASON_LENGTH} or fewer."
    return codebook.problem(codes)


def _disagreed(study: Study, item_id: int) -> Disagreed:
    disagreed = decisions.found(study, judgements.which_of(study), item_id)
    if disagreed is None:
        abort(404)
    return disagreed


def _basis(disagreed: Disagreed) -> tuple[str, str]:
    """Return what a form was made on, as its hidden fields say it."""
    return " ".join(map(str, disagreed.label_ids)), str(disagreed.decision_id or "")


def _page(study: Study, disagreed: Disagreed, problem: str | None = None) -> str:
    clip = clips.load_clip(disagreed.audio_id, study.shows)
    codebook = decisions.codebook_to_use(disagreed.label_ids, codebook_of(study))
    label_ids, decision_id = _basis(disagreed)
    return render_template(
        "decision.html",
        study=study,
        disagreed=disagreed,
        clip=clip,
        doubts=screen.doubts(clip) if clip is not None else [],
        codebook=codebook,
        names={label.code: label.name for label in codebook.labels},
        opinions=decisions.opinions(study, judgements.which_of(study), disagreed.item_id),
        confidences=CONFIDENCES,
        before=decisions.newest(disagreed.item_id),
        verdicts=clips.verdicts(disagreed.audio_id) if "verdict" in request.args else None,
        label_ids=label_ids,
        decision_id=decision_id,
        problem=problem,
        **_typed(codebook),
    )


def _typed(codebook: Codebook) -> dict[str, Any]:
    """Return what was typed, and the list from which one came."""
    return {
        "submission": {
            "labels": request.form.getlist("label"),
            "answers": sent_answers(request.form, codebook),
        },
        "reason": request.form.get("reason", ""),
        "as_reference": "reference" in request.form,
        "show": request.form.get("show") or request.args.get("show", "open"),
        "code": request.form.get("code") or request.args.get("label") or "",
    }
