"""What the page of a clip reports of itself: that the text was uncovered or put away, and what became of a break."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue

from app import access, claims, wellbeing_record
from app.models import REPORTED, Assignment, User, db
from app.security import sent_by_itself

blueprint = Blueprint("wellbeing", __name__)

BY_ITSELF = "break-proposed"  # nobody did anything: the page proposes a break when its time has come
LARGEST = 2**63 - 1  # Postgres' bigint


@blueprint.post("/wellbeing")
def report() -> ResponseReturnValue:
    """Add the event to the record. A clip that is not this person's business is left out of it."""
    body = _body()
    event = body.get("event")
    if event not in REPORTED:
        return Response(f"The event must be one of {', '.join(REPORTED)}.\n", status=422, mimetype="text/plain")
    if event == BY_ITSELF:
        sent_by_itself()
    audio_id = _clip(g.viewer, body.get("audio_id"))
    study_id = _study(g.viewer, audio_id) if audio_id is not None else None
    wellbeing_record.note(g.viewer.user_id, event, audio_id=audio_id, study_id=study_id)
    db.session.commit()
    return Response(status=204)


def _body() -> Mapping[str, Any]:
    if not request.is_json:
        return request.form
    given = request.get_json(silent=True)
    return given if isinstance(given, dict) else {}


def _clip(user: User, given: Any) -> int | None:
    text = str(given)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST):
        return None
    audio_id = int(text)
    known = access.may_read(user, audio_id) or access.may_take(user, audio_id)
    return audio_id if known else None


def _study(user: User, audio_id: int) -> int | None:
    """Return the study in which this person holds or held the clip; None for a reader by role."""
    slot = claims.slot_of(user.user_id, audio_id)
    if slot is None:
        held = claims.once_held(user.user_id, audio_id)
        slot = db.session.get(Assignment, held) if held is not None else None
    return slot.study_id if slot is not None else None
