"""Error pages: what a reviewer sees when a request fails, and what the app logs about it."""

from __future__ import annotations

import psycopg2.errors
import sqlalchemy.exc
from flask import Flask, Response, current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, InternalServerError, ServiceUnavailable

from app.errors import ClipMissingError, CodebookChangedError, RangeUnsatisfiableError, StorageUnavailableError
from app.models import db

SENTENCES = {
    400: ("Form not accepted", "The form was incomplete or too old. Go back, reload the page and try again."),
    403: ("Not allowed", "Your account may not open this page."),
    404: ("Not found", "This page does not exist, or the clip is not in the queue."),
    405: ("Not found", "This address does not accept this kind of request."),
    413: ("Too long", "The form is too long. Go back and shorten the note."),
    429: ("Too many requests", "Wait a minute, then try again."),
    500: ("Server error", "Something failed on the server. The error is logged. Please try again."),
    503: (
        "Not available",
        "A service that this page needs is down. Your stored labels are safe. Try again in a minute.",
    ),
}
RETRY_AFTER_S = 30


def handle_failures(app: Flask) -> None:
    app.register_error_handler(HTTPException, show)
    app.register_error_handler(CSRFError, form_refused)
    app.register_error_handler(sqlalchemy.exc.DBAPIError, database_failed)
    app.register_error_handler(sqlalchemy.exc.TimeoutError, database_failed)
    app.register_error_handler(CodebookChangedError, codebook_changed)
    app.register_error_handler(StorageUnavailableError, storage_failed)
    app.register_error_handler(ClipMissingError, clip_missing)
    app.register_error_handler(RangeUnsatisfiableError, range_unsatisfiable)


def show(error: HTTPException) -> ResponseReturnValue:
    """Answer with an error page; for the audio player and the page's script, with one line of plain text."""
    if error.response is not None:
        return error.response
    code = error.code or 500
    title, sentence = SENTENCES.get(code, (error.name, "The server cannot answer this request. Go back and try again."))
    headers = [(name, value) for name, value in error.get_headers() if name.lower() in {"allow", "retry-after"}]
    if code == 503:
        headers.append(("Retry-After", str(RETRY_AFTER_S)))
    if request.path.startswith(("/audio/", "/desk/")):
        return Response(f"{sentence}\n", status=code, headers=headers, mimetype="text/plain")
    return render_template("error.html", code=code, title=title, sentence=sentence), code, headers


def form_refused(error: CSRFError) -> ResponseReturnValue:
    """Answer a form without a valid CSRF token. Usually the page is too old. If all forms fail, https is missing."""
    if current_app.config["SESSION_COOKIE_SECURE"] and not request.is_secure:
        current_app.logger.warning(
            "A form was sent over plain http, but browsers send the session cookie over https only. Serve the app "
            "over https and set TRUSTED_PROXIES; for a test on one machine set SESSION_COOKIE_SECURE=false"
        )
    return show(error)


def database_failed(error: sqlalchemy.exc.DBAPIError | sqlalchemy.exc.TimeoutError) -> ResponseReturnValue:
    db.session.rollback()
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, psycopg2.errors.UndefinedTable):
        current_app.logger.error("A table is missing. Run `flask db upgrade` and apply schema.sql: %s", cause)
    elif isinstance(cause, psycopg2.errors.InsufficientPrivilege):
        current_app.logger.error("The app's database role lacks a privilege. Apply schema.sql again: %s", cause)
    elif isinstance(
        error, sqlalchemy.exc.TimeoutError | sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError
    ):
        current_app.logger.error("Postgres cannot be reached or did not answer in time: %s", cause)
    else:
        place = (request.method, request.path)
        current_app.logger.error("Postgres refused a statement on %s %s", *place, exc_info=error)
        return show(InternalServerError())
    return show(ServiceUnavailable())


def codebook_changed(error: CodebookChangedError) -> ResponseReturnValue:
    current_app.logger.error("%s", error)
    sentence = (
        "The codebook of this site was edited without a new version, or is missing, so labels cannot be taken now. "
        "Your stored labels and your drafts are safe. Tell your lead researcher; the log says how to mend it."
    )
    page = render_template("error.html", code=503, title="The codebook must be mended", sentence=sentence)
    return page, 503, {"Retry-After": str(RETRY_AFTER_S)}


def storage_failed(error: StorageUnavailableError) -> ResponseReturnValue:
    current_app.logger.error("%s", error)
    return _audio_text(503, "The audio store (S3) is down. Try again in a minute.", {"Retry-After": str(RETRY_AFTER_S)})


def clip_missing(error: ClipMissingError) -> ResponseReturnValue:
    current_app.logger.error("%s", error)
    return _audio_text(404, "The audio of this clip is missing. Set the clip aside and tell your lead its number.", {})


def range_unsatisfiable(error: RangeUnsatisfiableError) -> ResponseReturnValue:
    return _audio_text(416, "The requested range lies outside the clip.", {"Content-Range": f"bytes */{error.size}"})


def _audio_text(status: int, sentence: str, headers: dict[str, str]) -> Response:
    return Response(f"{sentence}\n", status=status, headers=headers, mimetype="text/plain")
