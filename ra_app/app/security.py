"""Who may ask for what, and the headers that every answer carries."""

from __future__ import annotations

import time

from flask import Flask, Response, current_app, flash, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, current_user
from flask_wtf import CSRFProtect

from app.accounts import load_session_user
from app.models import User

# Everything else needs a log-in: a route that is forgotten here is closed, not open.
PUBLIC_ENDPOINTS = frozenset({"auth.login", "health.healthz", "static"})

HEADERS = {
    # Nothing inline and nothing from elsewhere: text from transcripts can never become a script.
    "Content-Security-Policy": (
        "default-src 'none'; "
        "script-src 'self'; "
        "style-src 'self'; "
        "img-src 'self'; "
        "media-src 'self'; "
        "connect-src 'self'; "
        "form-action 'self'; "
        "base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

LOGGED_IN_AT = "logged_in_at"  # in the session; seconds since 1970
# Whoever sends one of these forms after the session ended goes on, after the log-in, at the page that holds the form.
FORM_PAGES = {"review.submit": "review.show", "review.skip": "review.show", "auth.account": "auth.account"}

csrf = CSRFProtect()
login_manager = LoginManager()


def protect(app: Flask) -> None:
    # Before the CSRF check, so that a form sent after the session ended leads to the log-in page, not to an error.
    app.before_request(deny_strangers)
    csrf.init_app(app)
    # Without the context processor: a page about a database that is down must not ask it who is looking.
    login_manager.init_app(app, add_context_processor=False)
    login_manager.user_loader(user_of_session)
    app.context_processor(lambda: {"viewer": g.get("viewer")})
    app.after_request(add_headers)


def deny_strangers() -> ResponseReturnValue | None:
    if request.endpoint is None or request.endpoint in PUBLIC_ENDPOINTS:
        return None  # no endpoint: there is no such page, and saying so gives nothing away
    if current_user.is_authenticated:
        g.viewer = current_user._get_current_object()  # noqa: SLF001 - werkzeug's documented way to the real object
        return None
    if request.endpoint == "audio.stream":  # a player can do nothing with a page
        return Response("Log in to hear this clip.\n", status=401, mimetype="text/plain")
    ended = "_user_id" in session
    if ended:  # else a log-in page open in another tab keeps the token of its form
        session.clear()
    if request.method in {"GET", "HEAD"}:
        if ended:
            flash("Your session has ended. Log in to go on where you were.", "info")
        return redirect(url_for("auth.login", next=request.full_path.rstrip("?")))
    if request.endpoint == "auth.logout":
        flash("You are logged out.", "info")
        return redirect(url_for("auth.login"))
    flash("Your session has ended. Log in and send the form again.", "error")
    page = FORM_PAGES.get(request.endpoint)
    return redirect(url_for("auth.login", next=url_for(page, **(request.view_args or {})) if page else None))


def begin_session() -> None:
    """From here the longest life of a session counts; the cookie carries it, signed."""
    session.permanent = True
    session[LOGGED_IN_AT] = time.time()


def user_of_session(session_id: str) -> User | None:
    """The user of the session in hand, unless it is too old or was ended; how long it lay unused, Flask looks at."""
    began = session.get(LOGGED_IN_AT)
    longest: float = current_app.config["RA_SESSION_MAX"].total_seconds()
    if not isinstance(began, int | float) or time.time() - began > longest:
        return None
    return load_session_user(session_id)


def add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "private, no-store")
    return response


def safe_target(target: str | None) -> str:
    """Where to go after the log-in: a path of this app, whatever the link said."""
    home = url_for("queue.index")
    if not target or not target.startswith("/") or target.startswith("//") or "\\" in target:
        return home
    if any(ord(char) < 32 for char in target):  # browsers drop tabs and line ends, which would hide a second slash
        return home
    return target
