"""The personal page: own progress, the last days, minutes heard, and own labels with a search. It shows no verdicts."""

from __future__ import annotations

from flask import Blueprint, abort, g, render_template, request
from flask.typing import ResponseReturnValue

from app import history, lists
from app.models import CONFIDENCES
from app.state import state

blueprint = Blueprint("me", __name__, url_prefix="/me")

LAST_PAGE = 100_000


@blueprint.get("")
def index() -> ResponseReturnValue:
    user_id, page = g.viewer.user_id, request.args.get("page", 1, type=int)
    if not 1 <= page <= LAST_PAGE:
        abort(404)
    query = history.clean(request.args.get("q", ""))
    names = {label.code: label.name for label in state().codebook.labels}
    named = [code for code, name in names.items() if query and query.casefold() in name.casefold()]
    entries, more = history.entries(user_id, query, named, page)
    return render_template(
        "me.html",
        progress=lists.progress(user_id),
        days=history.days(user_id),
        heard_ms=history.heard_ms(user_id),
        entries=entries,
        more=more,
        page=page,
        query=query,
        names=names,
        confidences=CONFIDENCES,
        query_length=history.QUERY_LENGTH,
    )
