"""Log-ins by single sign-on: to the provider, back from it, and the page on which a new person chooses a user name.

An identity without an account gets one only by a link that a lead has made, unless the settings say otherwise. A form
makes the account, so that an address that somebody sends does not. All of this answers 404 where single sign-on is not
set up. A log-in that fails has its page and its line in the log: see app/people/sign_on_errors.py.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from app.models import User
from app.people import identities, joining, links, sign_on, sign_on_errors, throttle
from app.people.accounts import AccountError
from app.people.identities import Known
from app.people.origins import Origin, network_of
from app.people.sign_on import Arrival, Attempt, Rules
from app.people.sign_on_errors import ClosedAccountError, NotInvitedError, SignOnError
from app.security import safe_target
from app.state import state
from app.views import auth, join

if TYPE_CHECKING:
    from app.people.provider import Provider

blueprint = Blueprint("sso", __name__)

NOT_USED = "You have an account with this identity already, so the link was not used."
# The codes by which a provider says that nobody has logged in.
_DECLINED = {
    "access_denied", "account_selection_required", "consent_required", "interaction_required", "login_required",
}  # fmt: skip
_DOWN = {"server_error", "temporarily_unavailable"}


@blueprint.get("/sso/login")
def begin() -> ResponseReturnValue:
    _, provider = _set_up()
    target = safe_target(request.args.get("next"))
    if len(target) > sign_on.TARGET_LENGTH:  # it would not fit into the cookie, and the log-in could not be finished
        target = safe_target(None)
    return redirect(target) if current_user.is_authenticated else _to_provider(provider, target, None)


@blueprint.get("/join/<token>/sso")
def begin_with_link(token: str) -> ResponseReturnValue:
    """Begin a log-in that uses an invitation or a link for a new password. The link is not used yet."""
    _, provider = _set_up()
    return join.gone() if links.find(token) is None else _to_provider(provider, url_for("queue.index"), token)


@blueprint.get("/sso/callback")
def callback() -> ResponseReturnValue:
    """The provider sends the browser here, with a code or with a refusal."""
    rules, provider = _set_up()
    again = url_for("auth.login")
    try:
        if "error" in request.args:
            again = _after_refusal(again)
            raise _refusal(request.args["error"])
        attempt = sign_on.take(request.args.get("state", ""))
        again = _beginning(attempt.target, attempt.link)
        user = _identify(rules, provider, attempt)
    except SignOnError as failure:
        return _failed(failure, again)
    except throttle.TooManyAttemptsError as refused:
        current_app.logger.warning("Too many failed log-ins by single sign-on from %s", _network())
        return auth.too_many(refused)
    if user is None:
        return redirect(url_for("sso.choose"))
    answer = auth.enter(user, attempt.target)
    if attempt.link is not None:
        flash(NOT_USED, "info")
    return answer


@blueprint.get("/sso/join")
def choose() -> ResponseReturnValue:
    """The page on which a new person chooses a user name."""
    _set_up()
    try:
        return _page(sign_on.arrival())
    except SignOnError as failure:
        return _failed(failure, url_for("auth.login"))


@blueprint.post("/sso/join")
def finish() -> ResponseReturnValue:
    """Make the account, or connect the identity with the account of the link, and log this browser in."""
    rules, _ = _set_up()
    try:
        arrival = sign_on.arrival()
        if arrival.link is None and not rules.without_invitation:
            raise NotInvitedError("no account, and no invitation")
        return _join(arrival, request.form.get("username", ""))
    except SignOnError as failure:
        return _failed(failure, url_for("auth.login"))
    except joining.LinkGoneError:
        return join.gone()
    except AccountError as error:
        return _page(arrival, str(error))
    except throttle.TooManyAttemptsError as refused:
        return join.too_many(refused.retry_after_s)


def _set_up() -> tuple[Rules, Provider]:
    shared = state()
    if shared.sign_on is None or shared.provider is None:
        abort(404)
    return shared.sign_on, shared.provider


def _to_provider(provider: Provider, target: str, link: str | None) -> ResponseReturnValue:
    try:
        begun = provider.begin(_return_address())
    except SignOnError as failure:
        return _failed(failure, _beginning(target, link))
    sign_on.remember(begun, target, link)
    return redirect(begun.address)


def _identify(rules: Rules, provider: Provider, attempt: Attempt) -> User | None:
    """Return the account of who has come back; None if this person may make one now.

    What costs a question to the provider is counted as a log-in, under a name of its own: many people may share a
    network, and nobody's name is known yet.
    """
    network = _network()
    known_here = attempt.link is not None or throttle.is_familiar(network)
    counted = throttle.begin(f"(single sign-on {secrets.token_hex(4)})", Origin(network), invited=known_here)
    try:
        code = request.args.get("code", "")
        claims = provider.claims(code, attempt.nonce, attempt.verifier, _return_address())
        rules.check(claims)
        user = identities.user_of(Known(claims["iss"], claims["sub"]))
        if user is not None and not user.active:
            raise ClosedAccountError(f"the account {user.username} is closed")
        if user is None and attempt.link is None and not rules.without_invitation:
            raise NotInvitedError("no account, and no invitation")
    except SignOnError as failure:
        throttle.finish(counted, "failed" if failure.counts else "refused")
        raise
    throttle.finish(counted, "succeeded")
    if user is None:
        sign_on.arrive(claims, attempt.link)
    return user


def _join(arrival: Arrival, username: str) -> ResponseReturnValue:
    joining.check_name(links.find(arrival.link) if arrival.link else None, username)
    counted = throttle.begin(f"(arrival {arrival.mark})", Origin(_network()), invited=True)
    try:
        if arrival.link is None:
            user = joining.join_uninvited(username, arrival.known)
        else:
            user = joining.use(arrival.link, username, arrival.known)
    except (joining.LinkGoneError, AccountError):
        throttle.finish(counted, "failed")
        raise
    throttle.finish(counted, "succeeded")
    return auth.enter(user, url_for("queue.index"))


def _page(arrival: Arrival, problem: str | None = None) -> ResponseReturnValue:
    link = links.find(arrival.link) if arrival.link else None
    if arrival.link and link is None:
        return join.gone()
    suggested = "" if link is not None and link.kind == "reset" else arrival.suggested
    name = (link.username if link is not None else None) or request.form.get("username", suggested)[:64]
    return render_template("sso.html", link=link, username=name, problem=problem), 422 if problem else 200


def _refusal(code: str) -> SignOnError:
    shown = code if re.fullmatch(r"[a-z_]{1,40}", code) else "a code that is none"  # whoever made the address wrote it
    cause = f"the provider sends the browser back with {shown}"
    if code in _DECLINED:
        return sign_on_errors.DeclinedError(cause)
    if code in _DOWN:
        return sign_on_errors.ProviderDownError(cause)
    return sign_on_errors.ProviderRefusesError(cause)


def _after_refusal(otherwise: str) -> str:
    """Return where to begin again. A refusal without a state that works is shown, too: some providers send none."""
    try:
        attempt = sign_on.take(request.args.get("state", ""))
    except SignOnError:
        return otherwise
    return _beginning(attempt.target, attempt.link)


def _failed(failure: SignOnError, again: str) -> ResponseReturnValue:
    current_app.logger.log(failure.level, "Single sign-on from %s: %s", _network(), failure.cause)
    page = render_template(
        "error.html", code=failure.status, title=failure.title, sentence=failure.sentence, again=again
    )
    return page, failure.status


def _beginning(target: str, link: str | None) -> str:
    return url_for("sso.begin", next=target) if link is None else url_for("join.show", token=link)


def _return_address() -> str:
    return url_for("sso.callback", _external=True)


def _network() -> str:
    return network_of(request.remote_addr)
