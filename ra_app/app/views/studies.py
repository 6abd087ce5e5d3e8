"""The pages of studies, for leads: all studies, and what one of them is."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, abort, render_template
from flask.typing import ResponseReturnValue

from app import acts
from app.models import Study, db
from app.roles import LEADS, needs

blueprint = Blueprint("studies", __name__, url_prefix="/studies")

STUDY = "/<int(max=9223372036854775807):study_id>"  # the largest Postgres bigint


@blueprint.get("")
@needs(*LEADS)
def index() -> ResponseReturnValue:
    studies = list(db.session.scalars(sa.select(Study).order_by(Study.study_id.desc())))
    return render_template("studies.html", studies=studies)


@blueprint.get(STUDY)
@needs(*LEADS)
def show(study_id: int) -> ResponseReturnValue:
    study = found(study_id)
    return render_template("study.html", study=study, lines=acts.newest(study.study_id))


def found(study_id: int) -> Study:
    """Return the study, or answer 404."""
    study = db.session.get(Study, study_id)
    if study is None:
        abort(404)
    return study
