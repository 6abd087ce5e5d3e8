"""The page behind an invitation or a link for a new password. Opening it changes nothing; only the form uses the link.

All links that do not work lead to the same page, whether they are expired, used, taken back or invented, and no page
says who has an account. Tries are limited as log-ins are.
"""

from __future__ import annotations

from flask import Blueprint, current_app, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.models import Link
from app.people import joining, links, throttle
from app.people.accounts import AccountError
from app.people.origins import Origin, network_of
from app.state import state
from app.views.auth import enter

blueprint = Blueprint("join", __name__, url_prefix="/join")

GONE = (
    "This link does not work. It may have been used already, it may be older than 7 days, or it was taken back. "
    "Ask the person who sent it to you for a new one."
)
UNKNOWN = "(unknown link)"  # counted like a name


@blueprint.get("/<token>")
def show(token: str) -> ResponseReturnValue:
    link = links.find(token)
    return gone() if link is None else _page(link)


@blueprint.post("/<token>")
def use(token: str) -> ResponseReturnValue:
    """Make the account, or set its new password, and log this browser in."""
    link, form = links.find(token), request.form
    username, password = form.get("username", ""), form.get("password", "")
    if link is not None:
        try:
            joining.check(link, username, password, form.get("repeat", ""))
        except AccountError as error:
            return _page(link, str(error)), 422
    name = UNKNOWN if link is None else f"(link {link.link_id})"
    try:
        attempt = throttle.begin(name, Origin(network_of(request.remote_addr)), invited=link is not None)
    except throttle.TooManyAttemptsError as refused:
        current_app.logger.warning("Too many tries as %s from %s", name, network_of(request.remote_addr))
        return too_many(refused.retry_after_s)
    try:
        user = joining.use(token, username, password)
    except joining.LinkGoneError:
        throttle.finish(attempt, "failed")
        return gone()
    except AccountError as error:
        throttle.finish(attempt, "failed")
        link = links.find(token)
        return gone() if link is None else (_page(link, str(error)), 422)
    throttle.finish(attempt, "succeeded")
    return enter(user, url_for("queue.index"))


def _page(link: Link, problem: str | None = None) -> str:
    typed = request.form.get("username", "")[:64]
    return render_template(
        "join.html",
        link=link,
        problem=problem,
        username=link.username or typed,
        token=(request.view_args or {})["token"],
        sign_on=state().sign_on,
    )


def gone() -> ResponseReturnValue:
    return render_template("error.html", code=404, title="This link does not work", sentence=GONE), 404


def too_many(seconds: int) -> ResponseReturnValue:
    minutes = -(-seconds // 60)
    sentence = f"Too many tries. Wait {minutes} minute{'s' if minutes > 1 else ''}, then open the link again."
    page = render_template("error.html", code=429, title="Please wait", sentence=sentence)
    return page, 429, {"Retry-After": str(seconds)}
