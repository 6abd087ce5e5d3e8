"""Pages to log in, to log out and to change the password."""

from __future__ import annotations

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user, logout_user

from app.models import User
from app.people import accounts, throttle
from app.people.accounts import AccountError
from app.people.origins import network_of, origin_for, remember_device
from app.security import begin_session, safe_target
from app.state import state

blueprint = Blueprint("auth", __name__)

WRONG = "User name or password is wrong."
# Logged and stored instead of a name that is not valid: people sometimes type their password into the name's field.
INVALID_NAME = "(no valid name)"


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    if request.method == "GET":
        if current_user.is_authenticated:
            return redirect(safe_target(request.args.get("next")))
        return _login_page()
    name = accounts.normalise_username(request.form.get("username", "")) or INVALID_NAME
    try:
        user = _authenticate(name, request.form.get("password", ""))
    except throttle.TooManyAttemptsError as refused:
        current_app.logger.warning("Too many failed log-ins as %s from %s", name, network_of(request.remote_addr))
        return too_many(refused)
    if user is None:
        return _login_page(WRONG), 401
    return enter(user, safe_target(request.args.get("next")))


def enter(user: User, target: str) -> Response:
    """Log this browser in as `user`, and lead it to a page of this app."""
    session.clear()  # data from before the log-in must not stay in the session
    begin_session()
    login_user(user)
    accounts.note_login(user)
    throttle.remember_network(user, network_of(request.remote_addr))
    answer: Response = make_response(redirect(target))
    remember_device(answer, user.username)
    return answer


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    """End all sessions of this user, on every device. A copy of the cookie is worthless afterwards."""
    accounts.end_sessions(g.viewer)
    logout_user()
    session.clear()
    flash("You are logged out on every device.", "info")
    return redirect(url_for("auth.login"))


@blueprint.route("/account", methods=["GET", "POST"])
def account() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("account.html")
    user: User = g.viewer
    new = request.form.get("new", "")
    try:
        attempt = throttle.begin(user.username, origin_for(user.username))
    except throttle.TooManyAttemptsError as refused:
        return too_many(refused)
    right = accounts.verify_password(user, request.form.get("current", ""))
    throttle.finish(attempt, "succeeded" if right else "failed")
    if not right:
        return render_template("account.html", problem="The current password is wrong."), 401
    if new != request.form.get("repeat", ""):
        return render_template("account.html", problem="The two new passwords are not the same."), 422
    try:
        accounts.set_password(user, new, by=user)
    except AccountError as error:
        return render_template("account.html", problem=str(error)), 422
    login_user(user)  # this browser stays logged in; every other login of the user ends
    flash("Your password is changed. You are logged out on all other devices.", "info")
    return redirect(url_for("queue.index"))


def _authenticate(name: str, password: str) -> User | None:
    attempt = throttle.begin(name, origin_for(name))
    user = accounts.authenticate(name, password)
    throttle.finish(attempt, "failed" if user is None else "succeeded")
    return user


def _login_page(problem: str | None = None) -> str:
    return render_template(
        "login.html",
        problem=problem,
        username=request.form.get("username", "")[:64],
        sign_on=state().sign_on,
        target=safe_target(request.args.get("next")),
    )


def too_many(refused: throttle.TooManyAttemptsError) -> ResponseReturnValue:
    minutes = -(-refused.retry_after_s // 60)
    sentence = f"Too many failed log-ins. Wait {minutes} minute{'s' if minutes > 1 else ''}, then try again."
    if refused.elsewhere:
        sentence += (
            " Some of the failed log-ins came from other places. You can log in now in a browser or on a network "
            "that you have used here before. If that is not possible, ask your lead researcher to unlock your "
            "account (flask users unlock)."
        )
    page = render_template("error.html", code=429, title="Please wait", sentence=sentence)
    return page, 429, {"Retry-After": str(refused.retry_after_s)}
