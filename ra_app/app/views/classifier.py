"""The classifier against people: for one policy, by one rule for what people say of a clip (app/results/truth.py)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from flask import Blueprint, Response, abort, g, render_template, request, stream_with_context
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from app import acts, plots
from app.models import Study, db
from app.results import classifier, examples, judgements, truth
from app.results.classifier import Results
from app.results.judgements import Version
from app.results.reviewed import Question
from app.results.truth import RULES
from app.roles import LEADS, needs
from app.search import clip_blindness
from app.statistics.estimate import Estimate
from app.views.agreement import chosen_version
from app.views.studies import STUDY, found

blueprint = Blueprint("classifier", __name__, url_prefix="/studies")

ALL = "all"  # versions of the policy


@blueprint.get(STUDY + "/classifier")
@needs(*LEADS)
def show(study_id: int) -> ResponseReturnValue:
    study = found(study_id)
    versions = judgements.versions(study, judgements.which_of(study, request.args.get("labels")))
    version = chosen_version(versions, request.args.get("version"))
    question = _question(study, version, request.args)
    at, problem = _at(request.args.get("at", "").strip())
    results = classifier.results(question, _policy_version(), at) if question is not None else None
    wrong = [*results.false_alarms, *results.misses] if results is not None else []
    shown = clip_blindness.listed(g.viewer, (clip.audio_id for clip in wrong))
    db.session.commit()
    page = render_template(
        "classifier.html",
        study=study,
        versions=versions,
        version=version,
        policies=truth.policies(version.codebook) if version is not None else [],
        question=question,
        labels=truth.labels_of(question.version.codebook, question.policy) if question is not None else [],
        rules=RULES,
        results=results,
        at=request.args.get("at", ""),
        problem=problem,
        shown=shown,
        **(_plots(results) if results is not None else {}),
    )
    return page, 422 if problem else 200


@blueprint.post(STUDY + "/classifier/examples")
@needs(*LEADS)
def fetch(study_id: int) -> ResponseReturnValue:
    """Send the judged clips as a file of examples. It holds what was said, so it is noted who fetched it."""
    study = found(study_id)
    versions = judgements.versions(study, judgements.which_of(study, request.form.get("labels")))
    question = _question(study, chosen_version(versions, request.form.get("version")), request.form)
    if question is None:
        abort(404)
    acts.note(g.viewer, "examples-fetched", study=study, subject=question.policy, rule=question.rule)
    db.session.commit()
    without = examples.contradictions(question)
    name = re.sub(r"[^a-z0-9-]", "", f"{question.policy}-study-{study.study_id}")
    answer = Response(stream_with_context(examples.lines(question, without)), mimetype="application/jsonl")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.jsonl"'
    return answer


def _question(study: Study, version: Version | None, asked: Any) -> Question | None:
    """Return what the address or form asks; None if no label answers to a policy; 404 if it is wrong."""
    known = truth.policies(version.codebook) if version is not None else []
    rule = asked.get("truth") or "majority"
    if rule not in RULES:
        abort(404)
    if version is None or not known:
        return None
    usual = next((policy for policy in study.policies if policy in known), known[0])
    policy = asked.get("policy") or usual
    if policy not in known:
        abort(404)
    which = judgements.which_of(study, asked.get("labels"))
    return Question(study=study, which=which, version=version, policy=policy, rule=rule)


def _policy_version() -> str | None:
    asked = request.args.get("policy_version")
    return "" if asked == ALL else asked


def _at(text: str) -> tuple[float | None, str | None]:
    if not text:
        return None, None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        return None, f"“{text[:20]}” is not a threshold. Write a number from 0 to 1, for example 0.62."
    return value, None


def _plots(results: Results) -> dict[str, Markup]:
    points, weeks = results.curve, results.weeks
    marks = [(results.threshold, "in force")] if results.threshold is not None and points else []
    inside = [mark for mark in marks if points[0].threshold <= mark[0] <= points[-1].threshold]
    series = [_series("Precision", points, lambda point: point.precision)]
    if results.sampled:
        series.append(_series("Recall", points, lambda point: point.recall))
    places = [point.threshold for point in points]
    curve = plots.Axes(
        title="Precision and recall by threshold" if results.sampled else "Precision by threshold",
        level="Threshold", upright="Share", places=places, names=[f"{place:.2f}" for place in places], top=1.0,
    )  # fmt: skip
    drift = plots.Axes(
        title="Precision by week of processing", level="Week that begins on this day", upright="Precision",
        places=list(range(len(weeks))), names=[week.monday.isoformat() for week in weeks], top=1.0,
    )  # fmt: skip
    by_week = _series("Precision", weeks, lambda week: week.precision)
    return {"curve": plots.lines(curve, series, marks=inside), "drift": plots.lines(drift, [by_week])}


def _series(name: str, things: Sequence[Any], estimate: Callable[[Any], Estimate]) -> plots.Series:
    found_of = [estimate(thing) for thing in things]
    return plots.Series(
        name, [each.value for each in found_of], [each.low for each in found_of], [each.high for each in found_of]
    )
