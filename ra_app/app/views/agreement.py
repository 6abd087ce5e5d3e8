"""The agreement page of a study: how far its coders agree, over time, and who gives which label how often."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from app import plots
from app.codebooks.codebook import Label
from app.results import agreement, judgements
from app.results.agreement import Results
from app.results.judgements import Version
from app.roles import LEADS, needs
from app.views.studies import STUDY, found

blueprint = Blueprint("agreement", __name__, url_prefix="/studies")


@blueprint.get(STUDY + "/agreement")
@needs(*LEADS)
def show(study_id: int) -> ResponseReturnValue:
    study = found(study_id)
    which = judgements.which_of(study, request.args.get("labels"))
    versions = judgements.versions(study, which)
    version = chosen_version(versions, request.args.get("version"))
    results = None
    if version is not None and version.codebook.labels:
        results = agreement.results(study, which, version, _label(version, request.args.get("label")))
    return render_template(
        "agreement.html",
        study=study,
        which=which,
        versions=versions,
        version=version,
        results=results,
        label=results.label if results is not None else None,
        plot=_plot(results, results.label) if results is not None and results.label is not None else "",
    )


def chosen_version(versions: Sequence[Version], asked: str | None) -> Version | None:
    """Return the version that the address names, or the one that was used last; 404 for one that does not exist."""
    if asked is None:
        return versions[0] if versions else None
    version = next((each for each in versions if each.name == asked), None)
    if version is None:
        abort(404)
    return version


def _label(version: Version, asked: str | None) -> str | None:
    """Return the code of the label that the address names; 404 for one of which there are no numbers."""
    known = {label.code for label in version.codebook.labels if not label.undecided}
    if asked is not None and asked not in known:
        abort(404)
    return asked


def _plot(results: Results, label: Label) -> Markup:
    weeks = results.weeks
    axes = plots.Axes(
        title=f"Agreement on “{label.name}” by week",
        level="Week that begins on this day",
        upright="Agreement",
        places=list(range(len(weeks))),
        names=[week.monday.isoformat() for week in weeks],
        top=1.0,
    )
    shown = [
        plots.Series(
            name,
            [each.value for each in estimates],
            [each.low for each in estimates],
            [each.high for each in estimates],
        )
        for name, estimates in (
            ("Krippendorff's alpha", [week.agreement.alpha for week in weeks]),
            ("Percent agreement", [week.agreement.percent for week in weeks]),
        )
    ]
    return plots.lines(axes, shown)
