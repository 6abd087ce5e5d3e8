"""The queue page: the reviewer's progress and lists of clips, and the way to the next clip. It shows no verdicts.

The choice of doubtful clips is kept in the session, so that the next clip after a label is one of the chosen ones.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from flask import Blueprint, abort, flash, g, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from app import quality
from app.results import training
from app.reviewing import claims, lists
from app.wellbeing import wellness

blueprint = Blueprint("queue", __name__)

CHOICE = "quality"  # the name of the choice in addresses and in the session
LAST_PAGE = 1_000_000  # keeps the OFFSET of the query within what Postgres accepts


@blueprint.get("/")
def index() -> ResponseReturnValue:
    show = request.args.get("show", "open")
    page = request.args.get("page", 1, type=int)
    chosen = request.args.get(CHOICE) or chosen_quality()
    if show not in lists.SHOWS or chosen not in quality.CHOICES or not 1 <= page <= LAST_PAGE:
        abort(404)
    if chosen != chosen_quality():
        session[CHOICE] = chosen
    user_id = g.viewer.user_id
    counts = lists.count_clips(user_id, chosen)
    pages = max(1, math.ceil(counts[show] / lists.PAGE_SIZE))
    if page > pages:  # the list has become shorter since the page with this link was shown
        return redirect(url_for("queue.index", show=show, page=pages))
    return render_template(
        "queue.html",
        lines=lists.list_clips(user_id, show, chosen, page),
        progress=lists.progress(user_id, arrivals=True),
        counts=counts,
        choices=quality.CHOICES,
        chosen=chosen,
        show=show,
        page=page,
        pages=pages,
        budget=wellness.budget(user_id, wellness.of_studies(user_id)),
        day_ends=wellness.day_ends(datetime.now(UTC)),
        trainings=training.studies(user_id),
    )


@blueprint.get("/next")
def next_page() -> ResponseReturnValue:
    """Lead old links to the queue: only a form claims a clip."""
    return redirect(url_for("queue.index"))


@blueprint.post("/next")
def next_clip() -> ResponseReturnValue:
    return to_next_clip()


def to_next_clip() -> ResponseReturnValue:
    """Claim the next clip and go there, or back to the queue if there is none.

    Whoever has used up the minutes of the day goes on with what they hold; the queue page says why there is no other.
    """
    user_id, chosen = g.viewer.user_id, chosen_quality()
    if wellness.may_claim(user_id).used_up:
        held = claims.in_hand(user_id)
        return redirect(url_for("queue.index") if held is None else url_for("review.show", audio_id=held))
    found = claims.claim_next(user_id, chosen)
    if found is not None:
        return redirect(url_for("review.show", audio_id=found))
    if chosen != "all" and lists.progress(user_id).waiting:
        flash("You have no more clips to label of those that you chose. Choose “All clips” to see the others.", "info")
    else:
        flash("You have no more clips to label. Thank you!", "info")
    return redirect(url_for("queue.index"))


def chosen_quality() -> str:
    """Return the reviewer's choice; all clips until one is made."""
    chosen = session.get(CHOICE)
    return chosen if chosen in quality.CHOICES else "all"
