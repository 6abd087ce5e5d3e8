"""The planner: how many clips to review for precision and recall, before a study and during it."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from app.roles import LEADS, needs
from app.studies import planning
from app.studies.settings_form import whole
from app.views.studies import found

blueprint = Blueprint("study_plan", __name__, url_prefix="/studies")

USUAL = {"half_width": "5", "clips": "100000", "flagged": "6000", "prevalence": "6", "recall": "80"}


@blueprint.get("/plan")
@needs(*LEADS)
def index() -> ResponseReturnValue:
    number = whole(request.args.get("study"), 1, 2**63 - 1)
    study = found(number) if number is not None else None
    typed = MultiDict(USUAL)
    sizes = planning.sizes(study) if study is not None else None
    if sizes is not None:
        typed["clips"], typed["flagged"] = str(sizes[0]), str(sizes[1])
    asked = "half_width" in request.args
    for name in USUAL:
        if name in request.args:
            typed[name] = request.args[name]
    problems: dict[str, str] = {}
    assumed = planning.read(typed, problems) if asked else None
    answer = planning.plan(assumed, study, problems) if assumed is not None else None
    page = render_template(
        "study_plan.html", study=study, sample=sizes is not None, typed=typed, problems=problems, answer=answer
    )
    return page, 422 if problems else 200
