"""The queue page: the reviewer's progress, the next clip, and lists of clips. It does not show the model's verdicts.

The choice of doubtful clips is kept in the session, so that the next clip after a label is one of the chosen ones.
"""

from __future__ import annotations

import math

from flask import Blueprint, abort, flash, g, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from app import clips, quality

blueprint = Blueprint("queue", __name__)

CHOICE = "quality"  # the name of the choice in addresses and in the session
LAST_PAGE = 1_000_000  # keeps the OFFSET of the query within what Postgres accepts


@blueprint.get("/")
def index() -> ResponseReturnValue:
    show = request.args.get("show", "todo")
    page = request.args.get("page", 1, type=int)
    chosen = request.args.get(CHOICE) or _chosen()
    if show not in clips.SHOWS or chosen not in quality.CHOICES or not 1 <= page <= LAST_PAGE:
        abort(404)
    if chosen != _chosen():
        session[CHOICE] = chosen
    user_id = g.viewer.user_id
    progress = clips.progress(user_id)
    counts = clips.count_clips(user_id, chosen)
    pages = max(1, math.ceil(counts[show] / clips.PAGE_SIZE))
    if page > pages:  # the list has become shorter since the page with this link was shown
        return redirect(url_for("queue.index", show=show, page=pages))
    return render_template(
        "queue.html",
        lines=clips.list_clips(user_id, show, chosen, page),
        progress=progress,
        counts=counts,
        choices=quality.CHOICES,
        chosen=chosen,
        show=show,
        page=page,
        pages=pages,
    )


@blueprint.get("/next")
def next_clip() -> ResponseReturnValue:
    """Go to the next clip to label, or back to the queue if there is none."""
    after = request.args.get("after", 0, type=int)
    chosen = _chosen()
    found = clips.next_clip(g.viewer.user_id, min(max(after, 0), 2**63 - 1), chosen)
    if found is None and chosen != "all" and clips.next_clip(g.viewer.user_id) is not None:
        flash("You have no more clips to label of those that you chose. Choose “All clips” to see the others.", "info")
        return redirect(url_for("queue.index"))
    if found is None:
        flash("You have no more clips to label. Thank you!", "info")
        return redirect(url_for("queue.index"))
    return redirect(url_for("review.show", audio_id=found))


def _chosen() -> str:
    """Return the reviewer's choice; all clips until one is made."""
    chosen = session.get(CHOICE)
    return chosen if chosen in quality.CHOICES else "all"
