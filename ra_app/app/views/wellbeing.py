"""What the page of a clip reports by itself: what became of a break."""

from __future__ import annotations

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue

from app.models import BREAKS, db
from app.security import sent_by_itself
from app.wellbeing import wellbeing_record

blueprint = Blueprint("wellbeing", __name__)

BY_ITSELF = "break-proposed"  # nobody did anything: the page proposes a break when its time has come


@blueprint.post("/wellbeing")
def report() -> ResponseReturnValue:
    """Add the event to the record. That a text was uncovered comes with the label: see app/reviewing/records.py."""
    event = request.form.get("event", "")
    if event not in BREAKS:
        return Response(f"The event must be one of {', '.join(BREAKS)}.\n", status=422, mimetype="text/plain")
    if event == BY_ITSELF:
        sent_by_itself()
    wellbeing_record.note(g.viewer.user_id, event)
    db.session.commit()
    return Response(status=204)
