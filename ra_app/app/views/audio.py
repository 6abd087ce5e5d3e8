"""Streams a clip from S3 through the app. The bucket stays private, and only logged-in reviewers hear the clip."""

from __future__ import annotations

from flask import Blueprint, Response, abort, g, request
from flask.typing import ResponseReturnValue

from app import access, clips
from app.models import db
from app.ranges import single_range, strong_etag
from app.reviewing import records
from app.state import state
from app.views.review import CLIP

blueprint = Blueprint("audio", __name__, url_prefix="/audio")


@blueprint.get(CLIP)
def stream(audio_id: int) -> ResponseReturnValue:
    """Send the clip as Ogg/Opus, or one range of its bytes (206): the player needs ranges to seek.

    The browser does not keep it (`no-store`): harmful recordings must not collect on reviewers' computers.
    """
    key = clips.audio_key(audio_id) if access.may_read(g.viewer, audio_id) else None
    if key is None:
        abort(404)
    if request.method == "GET" and _from_the_beginning(request.headers.get("Range")):
        records.note(g.viewer.user_id, "listened", audio_id, None)
        db.session.commit()
    db.session.remove()  # sending takes long on a slow network, and needs no database connection
    asked, if_range = single_range(request.headers.get("Range")), request.headers.get("If-Range")
    if if_range is not None and not strong_etag(if_range):
        asked = None
    store = state().audio
    found = store.head(key) if request.method == "HEAD" else store.open(key, asked, if_range)
    response = Response(status=206 if found.content_range else 200, mimetype="audio/ogg")
    if found.body is not None:
        response.response = found.chunks()
        response.call_on_close(found.close)  # also if the client disconnects before the first byte
    if found.content_range:
        response.headers["Content-Range"] = found.content_range
    response.headers["Content-Length"] = str(found.length)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = found.etag
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _from_the_beginning(asked: str | None) -> bool:
    """Whether the first byte is asked for: a player does so once, and asks for other ranges when it seeks."""
    return asked is None or single_range(asked) is None or asked.replace(" ", "").lower().startswith("bytes=0-")
