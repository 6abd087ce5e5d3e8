"""The forms of leads on studies: a new study, changes, more clips, and the acts open, pause and close.

A form with a problem is shown again with what was written, and each problem beside its field. *Count* shows what a
selection gives and makes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from app.models import Study, db
from app.roles import LEADS, needs
from app.studies import making, selection_form, settings_form, states
from app.studies.drawing import ChangedFrameError
from app.studies.selection_form import Selection
from app.studies.settings_form import Settings, whole
from app.views.studies import STUDY, found

blueprint = Blueprint("study_forms", __name__, url_prefix="/studies")

SAID = {
    "open": "The study is open: its clips are given out.",
    "paused": "The study is paused: nobody gets another clip of it. What people hold they may finish.",
    "closed": "The study is closed: it takes no more labels. What was written on clips in hand is kept as drafts.",
}


@blueprint.get("/new")
@needs(*LEADS)
def new() -> ResponseReturnValue:
    """The empty form. Fields may be filled by the address, as the planner does."""
    return _new(_with(request.args))


@blueprint.post("/new")
@needs(*LEADS)
def make() -> ResponseReturnValue:
    """Make the study (`act` is "make"), count what it gives ("count"), or fill the form: with clips of a search."""
    act = request.form.get("act")
    if act not in {"make", "count"}:
        return _new(_with(request.form, which="list"))
    settings, selection = settings_form.read(request.form), selection_form.read(request.form)
    problems = {**settings.problems, **selection.problems}
    if act == "count":
        return _count(settings, selection)
    study = None
    if not problems:
        study, problems = making.make(settings, selection, g.viewer)
    if study is None:
        db.session.rollback()
        return _new(request.form, problems), 422
    db.session.commit()
    flash("The study is made. It is paused: look at it, then open it.", "info")
    return redirect(url_for("studies.show", study_id=study.study_id))


@blueprint.get(STUDY + "/change")
@needs(*LEADS)
def change(study_id: int) -> ResponseReturnValue:
    study = found(study_id)
    return _change(study, settings_form.typed(study))


@blueprint.post(STUDY + "/change")
@needs(*LEADS)
def store_change(study_id: int) -> ResponseReturnValue:
    settings = settings_form.read(request.form)  # before the row is locked: it may publish the codebook, which commits
    study = found(study_id, lock=True)
    problems = settings.problems or making.change(study, settings, g.viewer)
    if problems:
        db.session.rollback()
        return _change(found(study_id), request.form, problems), 422
    db.session.commit()
    flash("The study is changed.", "info")
    return redirect(url_for("studies.show", study_id=study_id))


@blueprint.get(STUDY + "/extend")
@needs(*LEADS)
def extend(study_id: int) -> ResponseReturnValue:
    return _extend(found(study_id), MultiDict())


@blueprint.post(STUDY + "/extend")
@needs(*LEADS)
def store_extension(study_id: int) -> ResponseReturnValue:
    """Add the next clips of the sample's order, or the clips of a list."""
    problems: dict[str, str] = {}
    study, added = found(study_id, lock=True), 0
    how = making.describe(study)["how"]
    if how == "sample":
        more = _more(study, problems)
        try:
            added = making.extend_sample(study, more, g.viewer) if not problems else 0
        except ChangedFrameError as error:
            problems["form"] = str(error)
    elif how == "list":
        clips = selection_form.read_list(request.form, problems)
        added = making.extend_list(study, clips, g.viewer) if not problems else 0
    if not problems and not added:
        problems["form"] = "That adds no clip: the study has them already, or there are no more."
    if problems:
        db.session.rollback()
        return _extend(found(study_id), request.form, problems), 422
    db.session.commit()
    flash(f"{added} clip{'s are' if added > 1 else ' is'} added to the study.", "info")
    return redirect(url_for("studies.show", study_id=study_id))


@blueprint.post(STUDY + "/open")
@needs(*LEADS)
def open_(study_id: int) -> ResponseReturnValue:
    return _set_state(study_id, "open")


@blueprint.post(STUDY + "/pause")
@needs(*LEADS)
def pause(study_id: int) -> ResponseReturnValue:
    return _set_state(study_id, "paused")


@blueprint.post(STUDY + "/close")
@needs(*LEADS)
def close(study_id: int) -> ResponseReturnValue:
    return _set_state(study_id, "closed")


def _more(study: Study, problems: dict[str, str]) -> dict[int, int]:
    """Return how many clips are wanted of each stratum, by its number; those of which none is are left out."""
    wanted = {}
    for stratum in study.design["strata"]:
        name = f"more.{stratum['number']}"
        clips = whole(request.form.get(name) or "0", 0, selection_form.MOST_CLIPS)
        if clips is None:
            problems[name] = "Write a whole number."
        elif clips:
            wanted[int(stratum["number"])] = clips
    if request.form.get("drawn", "") != drawn(study.design):
        problems["form"] = "The study was extended since this page was opened, perhaps by you. Look at the new numbers."
    return wanted


def _count(settings: Settings, selection: Selection) -> ResponseReturnValue:
    """Show what the selection gives. Fields that do not matter for that may still be empty."""
    matters = ("coders", "share")
    problems = {**selection.problems, **{key: settings.problems[key] for key in matters if key in settings.problems}}
    counted = None
    if not problems:
        counted, problems = making.count(settings, selection)
        db.session.rollback()
    return _new(request.form, problems, counted=counted), 422 if problems else 200


def _set_state(study_id: int, state: states.State) -> ResponseReturnValue:
    found(study_id)
    given_back = states.set_state(study_id, state, g.viewer)
    db.session.commit()
    said = SAID[state] if given_back is not None else f"The study is {state} already."
    if given_back:
        said += f" Clips that were in hand: {given_back}."
    flash(said, "info")
    return redirect(url_for("studies.show", study_id=study_id))


def _with(given: MultiDict[str, str], **more: str) -> MultiDict[str, str]:
    """Return the form of a new study, with what is given instead of its defaults."""
    form = settings_form.typed()
    for name, value in {**selection_form.typed(), **more}.items():
        form[name] = value
    for name in given:
        form.setlist(name, given.getlist(name))
    return form


def _new(typed: MultiDict[str, str], problems: dict[str, str] | None = None, **shown: Any) -> str:
    return render_template(
        "study_new.html",
        typed=typed,
        problems=problems or {},
        offered=settings_form.choices(),
        policies=[(policy, policy) for policy in selection_form.known_policies()],
        **shown,
    )


def _change(study: Study, typed: MultiDict[str, str], problems: dict[str, str] | None = None) -> str:
    return render_template(
        "study_change.html",
        study=study,
        typed=typed,
        problems=problems or {},
        offered=settings_form.choices(),
        fixed=making.has_labels(study),
    )


def _extend(study: Study, typed: MultiDict[str, str], problems: dict[str, str] | None = None) -> str:
    described = making.describe(study)
    shown = {"typed": typed, "problems": problems or {}, "design": described, "drawn": drawn(described)}
    return render_template("study_extend.html", study=study, **shown)


def drawn(design: Mapping[str, Any]) -> str:
    """Return how many clips were drawn so far, which the form sends back: it must not draw twice."""
    return str(sum(stratum["drawn"] for stratum in design.get("strata", ())))
