"""The references of a study: the labels that its clips should get, and how the coders compare with them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.codebooks.published import codebook_of
from app.models import db
from app.results import judgements, reference_table, references
from app.results.reference_table import MOST_PROBLEMS, TableError
from app.reviewing.submission import cleaned
from app.roles import LEADS, needs
from app.views.agreement import chosen_version
from app.views.studies import STUDY, found

blueprint = Blueprint("references", __name__, url_prefix="/studies")

LAST_PAGE = 1_000_000


@blueprint.get(STUDY + "/references")
@needs(*LEADS)
def index(study_id: int) -> ResponseReturnValue:
    return _page(study_id)


@blueprint.post(STUDY + "/references")
@needs(*LEADS)
def store(study_id: int) -> ResponseReturnValue:
    """Set the reference of one clip."""
    study = found(study_id)
    codebook = codebook_of(study)
    clip, codes, reason = (
        request.form.get("clip", "").strip(),
        request.form.getlist("label"),
        cleaned(request.form.get("reason", "")),
    )
    if not (clip.isascii() and clip.isdigit() and len(clip) < 19):
        return _page(study_id, problem="Write the number of a clip."), 422
    problem = references.problem(study, codebook, int(clip), codes, reason)
    if problem is not None:
        return _page(study_id, problem=problem), 422
    references.put(study, codebook, g.viewer, int(clip), codes, reason)
    db.session.commit()
    flash(f"The reference of clip {clip} is set.", "info")
    return redirect(url_for("references.index", study_id=study_id))


@blueprint.post(STUDY + "/references/upload")
@needs(*LEADS)
def upload(study_id: int) -> ResponseReturnValue:
    """Set the references of a CSV file: all of them, or none if a line is wrong."""
    study = found(study_id)
    codebook = codebook_of(study)
    sent = request.files.get("file")
    try:
        lines = reference_table.read(sent.read() if sent is not None else b"")
    except TableError as error:
        return _page(study_id, problems=[str(error)]), 422
    problems = []
    for line in lines:
        problem = references.problem(study, codebook, line.audio_id, line.codes, line.reason)
        problems += [f"Line {line.number}: {problem}"] if problem is not None else []
        if len(problems) >= MOST_PROBLEMS:
            break
    if problems:
        return _page(study_id, problems=problems), 422
    for line in lines:
        references.put(study, codebook, g.viewer, line.audio_id, line.codes, line.reason)
    db.session.commit()
    flash(f"{len(lines)} references are set.", "info")
    return redirect(url_for("references.index", study_id=study_id))


@blueprint.post(STUDY + "/references/withdraw")
@needs(*LEADS)
def withdraw(study_id: int) -> ResponseReturnValue:
    study = found(study_id)
    clip = request.form.get("clip", 0, type=int)
    if references.take_back(study, codebook_of(study), g.viewer, clip):
        db.session.commit()
        flash(f"The reference of clip {clip} is taken back.", "info")
    else:
        flash(f"Clip {clip} has no reference.", "error")
    return redirect(url_for("references.index", study_id=study_id))


def _page(study_id: int, **problems: Any) -> str:
    study = found(study_id)
    codebook = codebook_of(study)
    number = request.args.get("page", 1, type=int)
    if not 1 <= number <= LAST_PAGE:
        abort(404)
    which = judgements.which_of(study)
    versions = judgements.versions(study, which)
    version = chosen_version(versions, request.args.get("version"))
    entries, more = references.page(study, codebook, number)
    return render_template(
        "references.html",
        study=study,
        codebook=codebook,
        names={label.code: label.name for label in codebook.labels},
        entries=entries,
        page=number,
        more=more,
        which=which,
        versions=versions,
        version=version,
        coders=references.coders(study, which, version) if version is not None else [],
        **problems,
    )
