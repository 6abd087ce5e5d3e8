"""The review screen's API: the page's script shows one clip after the other without loading a page again.

`/desk/ahead` claims clips before they are needed. Submitting, setting aside and passing answer at once with the clips
that come next, and renew the leases of those that the page has (`held`: the seconds of each), so a clip costs one
request besides its audio. An item is the HTML of the clip and its form, as the page has it. Every answer is JSON;
`state` says how things stand, as in `app/reviewing/submitting.py`.
"""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, abort, g, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import access
from app.models import Assignment, db
from app.reviewing import claims, labelling, lists, records, screen, submitting
from app.reviewing.submitting import Outcome
from app.views.queue import chosen_quality
from app.views.review import CLIP
from app.wellbeing import wellness

blueprint = Blueprint("desk", __name__, url_prefix="/desk")

MOST_AHEAD = 2
_NUMBER = re.compile(r"[0-9]{1,18}")
CODES = {"stored": 200, "aside": 200, "refused": 422, "stale": 409, "lost": 409}


@blueprint.get(CLIP)
def item(audio_id: int) -> ResponseReturnValue:
    """A clip that this person holds or has labelled, to look at again or to change."""
    slot = claims.slot_of(g.viewer.user_id, audio_id)
    if slot is None:
        return _without_slot(audio_id)
    found = _item(slot)
    if found is None:
        abort(404)
    _opened(slot)
    db.session.commit()
    return {"state": "held", "item": found}


@blueprint.post("/ahead")
def ahead() -> ResponseReturnValue:
    """Claim clips for later. `have`: the clips of the page; `want`: how many more; `showing`: the one it shows."""
    _note_shown()
    return _with_next({"state": "ahead"})


@blueprint.post(CLIP + "/submit")
def submit(audio_id: int) -> ResponseReturnValue:
    return _answer(audio_id, submitting.submit(g.viewer.user_id, audio_id, request.form))


@blueprint.post(CLIP + "/skip")
def skip(audio_id: int) -> ResponseReturnValue:
    return _answer(audio_id, submitting.skip(g.viewer.user_id, audio_id, request.form))


@blueprint.post(CLIP + "/pass")
def pass_on(audio_id: int) -> ResponseReturnValue:
    return _answer(audio_id, submitting.pass_on(g.viewer.user_id, audio_id, request.form))


@blueprint.post(CLIP + "/take")
def take(audio_id: int) -> ResponseReturnValue:
    """Hold a clip again that one has set aside, passed or let lapse: the undo of these."""
    if not access.may_take(g.viewer, audio_id):
        abort(404)
    claims.take(g.viewer.user_id, audio_id)
    return item(audio_id)


@blueprint.post(CLIP + "/reveal")
def reveal(audio_id: int) -> ResponseReturnValue:
    """Show the model's verdicts from now on, if the study has it and an own label is stored."""
    slot = claims.slot_of(g.viewer.user_id, audio_id, lock=True)
    if slot is not None and labelling.may_reveal(slot):
        labelling.reveal(slot)
    db.session.commit()
    return item(audio_id)


def _answer(audio_id: int, outcome: Outcome) -> ResponseReturnValue:
    if outcome.state == "unknown":
        abort(404)
    db.session.commit()
    answer: dict[str, Any] = {"state": outcome.state, "clip": audio_id, "problem": outcome.problem}
    if outcome.state == "stale" and outcome.slot is not None:
        answer["item"] = _item(outcome.slot, submission=outcome.submission, conflict=True)
    _note_shown()
    return _with_next(answer), CODES[outcome.state]


def _with_next(answer: dict[str, Any]) -> dict[str, Any]:
    user_id = g.viewer.user_id
    have = [int(number) for number in _NUMBER.findall(request.form.get("have", "")[:500])]
    want = min(request.form.get("want", 0, type=int), MOST_AHEAD)
    items: list[dict[str, Any]] = []
    budget = wellness.may_claim(user_id)
    while not budget.used_up and len(items) < want:
        clip = claims.claim_next(user_id, chosen_quality(), have)
        if clip is None:
            break
        have.append(clip)
        slot = claims.slot_of(user_id, clip)
        found = _item(slot) if slot is not None else None
        if found is not None:
            items.append(found)
    progress = render_template("_progress.html", progress=lists.progress(user_id))
    held = claims.renew(user_id, have)
    db.session.commit()
    return {**answer, "items": items, "held": held, "progress": progress, "budget": budget.state}


def _item(slot: Assignment, **shown: Any) -> dict[str, Any] | None:
    html = screen.desk(slot, **shown)
    if html is None:
        return None
    return {
        "clip": slot.audio_id,
        "page": url_for("review.show", audio_id=slot.audio_id),
        "audio": url_for("audio.stream", audio_id=slot.audio_id),
        "html": html,
    }


def _note_shown() -> None:
    """Record that the screen shows a clip which was sent ahead."""
    shown = request.form.get("showing", type=int)
    slot = claims.slot_of(g.viewer.user_id, shown) if shown is not None and 0 < shown < 2**63 else None
    if slot is not None:
        _opened(slot)
    db.session.commit()


def _opened(slot: Assignment) -> None:
    seen = labelling.sees_verdicts(slot)
    records.note(g.viewer.user_id, "opened", slot.audio_id, slot.assignment_id, verdicts_shown=seen)


def _without_slot(audio_id: int) -> ResponseReturnValue:
    if claims.once_held(g.viewer.user_id, audio_id) is None:
        abort(404)
    return {"state": "lost", "clip": audio_id}, 409
