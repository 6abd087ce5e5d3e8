"""What people see when something goes wrong, and what the log says about it."""

from __future__ import annotations

import psycopg2.errors
import sqlalchemy.exc
from flask import Flask, Response, current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, InternalServerError, ServiceUnavailable

from app.errors import ClipMissingError, RangeUnsatisfiableError, StorageUnavailableError
from app.models import db

SENTENCES = {
    400: ("That did not work", "The form was incomplete or too old. Go back, reload the page and try again."),
    403: ("Not allowed", "Your account may not open this page."),
    404: ("Not here", "There is no such page, or the clip is not in the queue."),
    405: ("Not here", "This address cannot be used that way."),
    413: ("Too much", "What was sent is too long."),
    429: ("Too many tries", "Please wait a little and try again."),
    500: ("Our mistake", "Something failed on the server. It has been written down; please try again."),
    503: ("Back soon", "A service that this page needs is away. What you stored is safe; try again in a minute."),
}
RETRY_AFTER_S = 30


def handle_failures(app: Flask) -> None:
    app.register_error_handler(HTTPException, show)
    app.register_error_handler(CSRFError, form_refused)
    app.register_error_handler(sqlalchemy.exc.DBAPIError, database_failed)
    app.register_error_handler(sqlalchemy.exc.TimeoutError, database_failed)
    app.register_error_handler(StorageUnavailableError, storage_failed)
    app.register_error_handler(ClipMissingError, clip_missing)
    app.register_error_handler(RangeUnsatisfiableError, range_unsatisfiable)


def show(error: HTTPException) -> ResponseReturnValue:
    """One clear sentence in the layout of the app; plain text for the audio player."""
    if error.response is not None:
        return error.response
    code = error.code or 500
    title, sentence = SENTENCES.get(code, (error.name, "The server could not do that."))
    headers = [(name, value) for name, value in error.get_headers() if name.lower() in {"allow", "retry-after"}]
    if code == 503:
        headers.append(("Retry-After", str(RETRY_AFTER_S)))
    if request.path.startswith("/audio/"):
        return Response(f"{sentence}\n", status=code, headers=headers, mimetype="text/plain")
    return render_template("error.html", code=code, title=title, sentence=sentence), code, headers


def form_refused(error: CSRFError) -> ResponseReturnValue:
    """A form without a valid token: mostly an old page; for everybody at once, a deployment without https."""
    if current_app.config["SESSION_COOKIE_SECURE"] and not request.is_secure:
        current_app.logger.warning(
            "A form came over plain http, where browsers keep the session cookie back: serve the app over https and "
            "set TRUSTED_PROXIES, or, for a test on one machine, SESSION_COOKIE_SECURE=false"
        )
    return show(error)


def database_failed(error: sqlalchemy.exc.DBAPIError | sqlalchemy.exc.TimeoutError) -> ResponseReturnValue:
    db.session.rollback()
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, psycopg2.errors.UndefinedTable):
        current_app.logger.error("A table is missing; run `flask db upgrade`, and apply schema.sql: %s", cause)
    elif isinstance(cause, psycopg2.errors.InsufficientPrivilege):
        current_app.logger.error("The database role lacks a right; apply schema.sql again: %s", cause)
    elif isinstance(
        error, sqlalchemy.exc.TimeoutError | sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError
    ):
        current_app.logger.error("Postgres cannot be reached or gave up: %s", cause)
    else:
        place = (request.method, request.path)
        current_app.logger.error("Postgres refused a statement on %s %s", *place, exc_info=error)
        return show(InternalServerError())
    return show(ServiceUnavailable())


def storage_failed(error: StorageUnavailableError) -> ResponseReturnValue:
    current_app.logger.error("%s", error)
    return _audio_text(503, "The audio store is away. Try again in a minute.", {"Retry-After": str(RETRY_AFTER_S)})


def clip_missing(error: ClipMissingError) -> ResponseReturnValue:
    current_app.logger.error("%s", error)
    return _audio_text(404, "The audio of this clip is missing. Set it aside, and tell your lead its number.", {})


def range_unsatisfiable(error: RangeUnsatisfiableError) -> ResponseReturnValue:
    return _audio_text(416, "That part lies outside the clip.", {"Content-Range": f"bytes */{error.size}"})


def _audio_text(status: int, sentence: str, headers: dict[str, str]) -> Response:
    return Response(f"{sentence}\n", status=status, headers=headers, mimetype="text/plain")
