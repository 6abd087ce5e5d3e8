"""“Your training”: for everybody who labels in a training study, the own labels beside the references."""

from __future__ import annotations

from flask import Blueprint, abort, g, render_template, request
from flask.typing import ResponseReturnValue

from app.results import training
from app.results.judgements import codebook_named

blueprint = Blueprint("training", __name__, url_prefix="/training")

LAST_PAGE = 1_000_000


@blueprint.get("/<int(max=9223372036854775807):study_id>")
def show(study_id: int) -> ResponseReturnValue:
    page = request.args.get("page", 1, type=int)
    user_id = g.viewer.user_id
    study = next((each for each in training.studies(user_id) if each.study_id == study_id), None)
    if study is None or not 1 <= page <= LAST_PAGE:
        abort(404)
    clips, more = training.clips(user_id, study_id, page)
    books = {clip.codebook: codebook_named(*clip.codebook) for clip in clips}
    names = {label.code: label.name for book in books.values() for label in book.labels}
    return render_template("training.html", study=study, clips=clips, names=names, page=page, more=more)
