"""The personal page: own progress, minutes heard, own choices, and own labels with a search. It shows no verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.codebooks import versions
from app.models import CONFIDENCES
from app.reviewing import history, lists
from app.state import state
from app.wellbeing import preferences, wellness

blueprint = Blueprint("me", __name__, url_prefix="/me")

LAST_PAGE = 100_000


@blueprint.get("")
def index() -> ResponseReturnValue:
    return _page()


@blueprint.post("/choices")
def choose() -> ResponseReturnValue:
    """Store the person's own choices about text, sound, breaks and limits."""
    problems = preferences.change(g.viewer.user_id, request.form, wellness.of_studies())
    if problems:
        return _page(problems), 422
    flash("Your choices are stored. They count from the next clip that you open.", "info")
    return redirect(url_for("me.index"))


def _page(problems: Mapping[str, str] | None = None) -> str:
    user_id, page = g.viewer.user_id, request.args.get("page", 1, type=int)
    if not 1 <= page <= LAST_PAGE:
        abort(404)
    query = history.clean(request.args.get("q", ""))
    codebook = state().codebook
    named = [label.code for label in codebook.labels if query and query.casefold() in label.name.casefold()]
    entries, more = history.entries(user_id, query, named, page)
    study, own = wellness.of_studies(), wellness.of_studies(user_id)
    return render_template(
        "me.html",
        progress=lists.progress(user_id),
        days=history.days(user_id),
        heard_ms=history.heard_ms(user_id),
        entries=entries,
        more=more,
        page=page,
        query=query,
        codebook=codebook,
        codebooks=versions.named((entry.codebook_id, entry.codebook_version) for entry in entries),
        confidences=CONFIDENCES,
        query_length=history.QUERY_LENGTH,
        study=study,
        wellness=own,
        budget=wellness.budget(user_id, own),
        day_ends=wellness.day_ends(datetime.now(UTC)),
        chosen=request.form if problems else preferences.shown(user_id, study),
        problems=problems or {},
        fades=preferences.FADES,
        quieter=preferences.QUIETER,
    )
