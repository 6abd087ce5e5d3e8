"""The queue page: the reviewer's progress, the next clip, and lists of clips. It does not show the model's verdicts."""

from __future__ import annotations

import math

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import clips

blueprint = Blueprint("queue", __name__)

LAST_PAGE = 1_000_000  # keeps the OFFSET of the query within what Postgres accepts


@blueprint.get("/")
def index() -> ResponseReturnValue:
    show = request.args.get("show", "todo")
    page = request.args.get("page", 1, type=int)
    if show not in clips.SHOWS or not 1 <= page <= LAST_PAGE:
        abort(404)
    user_id = g.viewer.user_id
    progress = clips.progress(user_id)
    counts = {"todo": progress.todo, "done": clips.count_done(user_id), "skipped": progress.skipped}
    pages = max(1, math.ceil(counts[show] / clips.PAGE_SIZE))
    if page > pages:  # the list has become shorter since the page with this link was shown
        return redirect(url_for("queue.index", show=show, page=pages))
    return render_template(
        "queue.html",
        lines=clips.list_clips(user_id, show, page),
        progress=progress,
        counts=counts,
        show=show,
        page=page,
        pages=pages,
    )


@blueprint.get("/next")
def next_clip() -> ResponseReturnValue:
    """Go to the next clip to label, or back to the queue if there is none."""
    after = request.args.get("after", 0, type=int)
    found = clips.next_clip(g.viewer.user_id, min(max(after, 0), 2**63 - 1))
    if found is None:
        flash("You have no more clips to label. Thank you!", "info")
        return redirect(url_for("queue.index"))
    return redirect(url_for("review.show", audio_id=found))
