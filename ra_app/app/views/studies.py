"""The pages of studies, for leads: all studies, and what one of them is."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, abort, render_template
from flask.typing import ResponseReturnValue

from app import acts
from app.models import Study, db
from app.roles import LEADS, needs
from app.studies import making, progress

blueprint = Blueprint("studies", __name__, url_prefix="/studies")

STUDY = "/<int(max=9223372036854775807):study_id>"  # the largest Postgres bigint


@blueprint.get("")
@needs(*LEADS)
def index() -> ResponseReturnValue:
    studies = list(db.session.scalars(sa.select(Study).order_by(Study.study_id.desc())))
    return render_template("studies.html", studies=studies, numbers=progress.of_studies())


@blueprint.get(STUDY)
@needs(*LEADS)
def show(study_id: int) -> ResponseReturnValue:
    study = found(study_id)
    days, coders = progress.days(study.study_id), progress.coders(study)
    return render_template(
        "study.html",
        study=study,
        design=making.describe(study),
        numbers=progress.numbers(study.study_id),
        days=days,
        plot=progress.plot(days) if days else None,
        coders=coders,
        hours=progress.hours(coders) if coders else None,
        members=progress.members(study),
        lines=acts.newest(study.study_id),
    )


def found(study_id: int, *, lock: bool = False) -> Study:
    """Return the study, or answer 404. `lock`: until the transaction ends."""
    study = db.session.get(Study, study_id, with_for_update=lock or None, populate_existing=lock)
    if study is None:
        abort(404)
    return study
