"""Log in, log out, change one's password."""

from __future__ import annotations

from flask import Blueprint, current_app, flash, g, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user, logout_user

from app import accounts, throttle
from app.accounts import AccountError
from app.models import User
from app.security import client_address, safe_target

blueprint = Blueprint("auth", __name__)

WRONG = "User name or password is wrong."
# What is written down for a name that nobody can have: people type passwords into the wrong box.
NOBODY = "(no valid name)"


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    if request.method == "GET":
        if current_user.is_authenticated:
            return redirect(url_for("queue.index"))
        return _login_page()
    name = accounts.normalise_username(request.form.get("username", "")) or NOBODY
    try:
        user = _authenticate(name, request.form.get("password", ""))
    except throttle.TooManyAttemptsError as refused:
        current_app.logger.warning("Too many failed log-ins as %s from %s", name, client_address())
        return _too_many(refused.retry_after_s)
    if user is None:
        return _login_page(WRONG), 401
    session.clear()  # nothing of what was before the log-in is carried over
    session.permanent = True
    login_user(user)
    return redirect(safe_target(request.args.get("next")))


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    logout_user()
    session.clear()
    flash("You are logged out.", "info")
    return redirect(url_for("auth.login"))


@blueprint.route("/account", methods=["GET", "POST"])
def account() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("account.html")
    user: User = g.viewer
    new = request.form.get("new", "")
    try:
        attempt = throttle.begin(user.username, client_address())
    except throttle.TooManyAttemptsError as refused:
        return _too_many(refused.retry_after_s)
    right = accounts.verify_password(user, request.form.get("current", ""))
    throttle.finish(attempt, "succeeded" if right else "failed")
    if not right:
        return render_template("account.html", problem="The current password is wrong."), 401
    if new != request.form.get("repeat", ""):
        return render_template("account.html", problem="The two new passwords differ."), 422
    try:
        accounts.set_password(user, new)
    except AccountError as error:
        return render_template("account.html", problem=str(error)), 422
    login_user(user)  # this session goes on; those elsewhere end
    flash("Your password is changed. Other sessions have ended.", "info")
    return redirect(url_for("queue.index"))


def _authenticate(name: str, password: str) -> User | None:
    attempt = throttle.begin(name, client_address())
    user = accounts.authenticate(name, password)
    throttle.finish(attempt, "failed" if user is None else "succeeded")
    if user is not None:
        accounts.note_login(user)
    return user


def _login_page(problem: str | None = None) -> str:
    return render_template("login.html", problem=problem, username=request.form.get("username", "")[:64])


def _too_many(retry_after_s: int) -> ResponseReturnValue:
    minutes = -(-retry_after_s // 60)
    sentence = f"Too many failed tries. Wait {minutes} minute{'s' if minutes > 1 else ''}, then try again."
    page = render_template("error.html", code=429, title="Please wait", sentence=sentence)
    return page, 429, {"Retry-After": str(retry_after_s)}
