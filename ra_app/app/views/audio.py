"""Streams a clip from S3 through the app, so that the bucket stays closed and only reviewers hear it."""

from __future__ import annotations

from flask import Blueprint, Response, abort, g, request
from flask.typing import ResponseReturnValue

from app import clips
from app.models import db
from app.ranges import single_range, strong_etag
from app.state import state
from app.views.review import CLIP

blueprint = Blueprint("audio", __name__, url_prefix="/audio")


@blueprint.get(CLIP)
def stream(audio_id: int) -> ResponseReturnValue:
    """The clip as Ogg/Opus; one range of bytes if asked for (206), which is what seeking needs.

    Not kept by the browser (`no-store`): harmful recordings should not pile up on reviewers' machines.
    """
    key = clips.audio_key(g.viewer.user_id, audio_id)
    if key is None:
        abort(404)
    db.session.remove()  # a slow listener must not hold a database connection
    asked, if_range = single_range(request.headers.get("Range")), request.headers.get("If-Range")
    if if_range is not None and not strong_etag(if_range):
        asked = None
    store = state().audio
    found = store.head(key) if request.method == "HEAD" else store.open(key, asked, if_range)
    response = Response(status=206 if found.content_range else 200, mimetype="audio/ogg")
    if found.body is not None:
        response.response = found.chunks()
        response.call_on_close(found.close)  # also when the listener goes away before the first byte
    if found.content_range:
        response.headers["Content-Range"] = found.content_range
    response.headers["Content-Length"] = str(found.length)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = found.etag
    response.headers["Cache-Control"] = "private, no-store"
    return response
