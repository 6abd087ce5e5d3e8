"""The search over all clips, for leads, and the way from what it found to a new study."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, g, render_template, request
from flask.typing import ResponseReturnValue

from app.roles import LEADS, needs
from app.search import filters as search_filters
from app.search import query, search
from app.search.search import TooLongError

blueprint = Blueprint("search", __name__, url_prefix="/clips")

TOO_LONG = (
    f"The search took longer than {search.TIMEOUT_MS // 1000} seconds and was stopped. Nothing is wrong with it: add a "
    "filter, or a word that is rarer."
)


@blueprint.get("")
@needs(*LEADS)
def index() -> ResponseReturnValue:
    filters = search_filters.read(request.args)
    if filters.problems:
        return _page(filters, hits=[]), 422
    before = request.args.get("before", type=int)
    if before is not None and not 0 < before < 2**63:
        abort(404)
    try:
        hits, more = search.page(filters, g.viewer.user_id, before)
    except TooLongError:
        return _page(filters, hits=[], problem=TOO_LONG), 503
    return _page(filters, hits=hits, more=more, before=before)


@blueprint.get("/numbers")
@needs(*LEADS)
def numbers() -> ResponseReturnValue:
    """Say how many clips the search finds, and hand their numbers to the page of a new study."""
    filters = search_filters.read(request.args)
    if filters.problems:
        return _page(filters, hits=[]), 422
    try:
        found = search.numbers(filters, g.viewer.user_id)
    except TooLongError:
        return _page(filters, hits=[], problem=TOO_LONG), 503
    return render_template("search_numbers.html", filters=filters, found=found, most=search.MOST)


def _page(filters: search_filters.Filters, **shown: Any) -> str:
    return render_template(
        "search.html",
        filters=filters,
        typed=filters.typed,
        fields=search.fields(),
        choices={
            "verdict": list(search_filters.VERDICTS.items()),
            "policy": [(name, name) for name in search.policies()],
            "language": [(name, name) for name in query.languages()],
            "finding": list(search_filters.FINDINGS.items()),
        },
        page_size=search.PAGE_SIZE,
        **shown,
    )
