"""Access control for every route, session limits, and the security headers of every answer."""

from __future__ import annotations

import time

from flask import Flask, Response, abort, current_app, flash, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, current_user
from flask_wtf import CSRFProtect

from app import roles
from app.models import User
from app.people.accounts import load_session_user

# All other routes need a log-in. So a new route is protected by default. Roles are checked here, too: see app/roles.py.
PUBLIC_ENDPOINTS = frozenset(
    {
        "auth.login", "health.healthz", "join.show", "join.use", "scripts.review", "static",
        "sso.begin", "sso.begin_with_link", "sso.callback", "sso.choose", "sso.finish",
    }
)  # fmt: skip

HEADERS = {
    # No inline code and nothing from other sites: text of a transcript can never run as a script.
    "Content-Security-Policy": (
        "default-src 'none'; "
        "script-src 'self'; "
        "style-src 'self'; "
        "img-src 'self'; "
        "media-src 'self' blob:; "  # a clip that was fetched ahead
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

LOGGED_IN_AT = "logged_in_at"  # key in the session; seconds since 1970
# A form may be sent after the session has ended. After the next log-in the user returns to the page with this form.
FORM_PAGES = {
    "review.submit": "review.show",
    "review.skip": "review.show",
    "review.pass_on": "review.show",
    "review.reveal": "review.show",
    "review.take": "queue.index",
    "queue.next_clip": "queue.index",
    "auth.account": "auth.account",
    "me.choose": "me.index",
    "clip_history.reveal": "search.index",
    "people.invite": "people.index",
    "people.revoke": "people.index",
    "people.reset": "people.index",
    "people.close": "people.index",
    "people.reopen": "people.index",
    "people.change_role": "people.index",
    "study_forms.make": "study_forms.new",
    "study_forms.store_change": "study_forms.change",
    "study_forms.store_extension": "study_forms.extend",
    "study_forms.open_": "studies.show",
    "study_forms.pause": "studies.show",
    "study_forms.close": "studies.show",
    "references.store": "references.index",
    "references.upload": "references.index",
    "references.withdraw": "references.index",
    "decisions.decide": "decisions.show",
    "classifier.fetch": "classifier.show",
    "codebooks.new": "codebooks.index",
    "codebooks.upload": "codebooks.index",
    "codebook_drafts.again": "codebooks.index",
    "codebook_drafts.begin": "codebooks.index",
    "codebook_drafts.discard": "codebooks.index",
    "codebook_drafts.publish": "codebooks.index",
    "codebook_drafts.save": "codebooks.index",
    "exports.order": "exports.index",
    "exports.again": "exports.index",
    "exports.remove": "exports.index",
}
# Forms of leads that may be longer than others, in bytes: lists of clips, and codebooks.
LONG_FORMS = {
    "study_forms.make": 250 * 1024,
    "study_forms.store_extension": 250 * 1024,
    "codebooks.upload": 1024 * 1024,
    "codebook_drafts.again": 1024 * 1024,
    "codebook_drafts.save": 1024 * 1024,
}
# These pages are of one clip or study: their address is that of the form.
PAGES_OF_ONE = {
    "review.show", "studies.show", "study_forms.change", "study_forms.extend", "references.index", "decisions.show",
    "classifier.show",
}  # fmt: skip

# A script or a player asks here; it cannot show the log-in page.
WITHOUT_PAGE = frozenset({
    "audio.stream", "desk.ahead", "desk.item", "desk.pass_on", "desk.reveal", "desk.skip", "desk.submit", "desk.take",
    "presence.draft", "presence.heartbeat", "wellbeing.report",
})  # fmt: skip
# The page sends this by itself, so it must not lengthen a session that nobody uses.
SIGN_OF_LIFE = "presence.heartbeat"

csrf = CSRFProtect()
login_manager = LoginManager()


class Sessions(SecureCookieSessionInterface):
    """Flask's sessions. A session that is idle but for signs of life of an open page ends as an idle one."""

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        if request.endpoint == SIGN_OF_LIFE or g.get("sent_by_itself"):
            return session.modified
        return super().should_set_cookie(app, session)


def sent_by_itself() -> None:
    """Say that the page has sent this request without anybody's act, so that it does not lengthen the session."""
    g.sent_by_itself = True


def protect(app: Flask) -> None:
    app.session_interface = Sessions()
    # Runs before the CSRF check: a form that is sent after the session has ended leads to the log-in page.
    app.before_request(require_login)
    csrf.init_app(app)
    # No context processor: it would query the user also for the error page that says the database is down.
    login_manager.init_app(app, add_context_processor=False)
    login_manager.user_loader(user_of_session)
    app.context_processor(lambda: {"viewer": g.get("viewer")})
    app.after_request(add_headers)


def require_login() -> ResponseReturnValue | None:
    if request.endpoint is None or request.endpoint in PUBLIC_ENDPOINTS:
        return None  # no endpoint: the page does not exist, and the answer 404 tells a stranger nothing
    if current_user.is_authenticated:
        g.viewer = current_user._get_current_object()  # noqa: SLF001 - werkzeug's documented way to the real object
        if not roles.allows(current_app.view_functions[request.endpoint], g.viewer):
            abort(403)
        if request.endpoint in LONG_FORMS:  # only for who may send it, and before the check of its token reads it
            request.max_content_length = request.max_form_memory_size = LONG_FORMS[request.endpoint]
        return None
    if request.endpoint in WITHOUT_PAGE:
        return Response("Log in to go on with this clip.\n", status=401, mimetype="text/plain")
    ended = "_user_id" in session
    if ended:  # without an ended session, keep the CSRF token: a log-in page in another tab needs it
        session.clear()
    if request.method in {"GET", "HEAD"}:
        if ended:
            flash("Your session has ended. Log in to continue.", "info")
        return redirect(url_for("auth.login", next=request.full_path.rstrip("?")))
    if request.endpoint == "auth.logout":
        flash("You are logged out.", "info")
        return redirect(url_for("auth.login"))
    flash("Your session has ended. Log in and send the form again.", "error")
    page = FORM_PAGES.get(request.endpoint)
    return redirect(url_for("auth.login", next=_page_of_form(page) if page else None))


def _page_of_form(endpoint: str) -> str:
    return url_for(endpoint, **(request.view_args or {}) if endpoint in PAGES_OF_ONE else {})


def begin_session() -> None:
    """Write the time of the log-in into the session. The maximum age of a session counts from it."""
    session.permanent = True
    session[LOGGED_IN_AT] = time.time()


def user_of_session(session_id: str) -> User | None:
    """Return the user of the current session, or None if it is too old or was ended. Flask ends unused sessions."""
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
    """Return the path to open after the log-in. Only paths of this app are allowed; else it is the queue."""
    home = url_for("queue.index")
    if not target or not target.startswith("/") or target.startswith("//") or "\\" in target:
        return home
    if any(ord(char) < 32 for char in target):  # browsers remove tabs and line ends, so "/<tab>/" would become "//"
        return home
    return target
