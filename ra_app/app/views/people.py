"""The pages of accounts, for leads and administrators. `app/people/managing.py` decides what a role may do to whom."""

from __future__ import annotations

import math

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, NotFound

from app import roles
from app.failures import show
from app.models import ROLES
from app.people import changes, links, managing
from app.people.accounts import AccountError
from app.people.managing import NobodyError, NotAllowedError
from app.roles import LEADS, needs

blueprint = Blueprint("people", __name__, url_prefix="/people")

PERSON = "/<int(max=9223372036854775807):user_id>"  # the largest Postgres bigint
LAST_PAGE = 1_000_000
ROLE_NAMES = {"ra": "Research assistant", "lead": "Lead", "admin": "Administrator"}

blueprint.app_template_filter("role_name")(lambda role: ROLE_NAMES[role])
blueprint.register_error_handler(NobodyError, lambda _: show(NotFound()))
blueprint.register_error_handler(NotAllowedError, lambda _: show(Forbidden()))


@blueprint.get("")
@needs(*LEADS)
def index() -> ResponseReturnValue:
    return _list()


@blueprint.get(PERSON)
@needs(*LEADS)
def person(user_id: int) -> ResponseReturnValue:
    return _person(user_id)


@blueprint.post("/invite")
@needs(*LEADS)
def invite() -> ResponseReturnValue:
    """Make an invitation, and show its link: the only time that anybody can see it."""
    role = request.form.get("role", "")
    if role not in ROLES:
        return _list("Choose a role for the invitation."), 422
    try:
        token = managing.invite(g.viewer, role, request.form.get("username", "").strip()[:64])
    except AccountError as error:
        return _list(str(error)), 422
    return _link(token, role=role)


@blueprint.post("/links/<int(max=9223372036854775807):link_id>/revoke")
@needs(*LEADS)
def revoke(link_id: int) -> ResponseReturnValue:
    if links.revoke(link_id, g.viewer):
        flash("The link is taken back. It does not work any more.", "info")
    else:
        flash("This link cannot be taken back: it was used or has ended, or it is not yours to manage.", "error")
    return redirect(url_for("people.index"))


@blueprint.post(PERSON + "/reset")
@needs(*LEADS)
def reset(user_id: int) -> ResponseReturnValue:
    """Make a link with which this person sets a new password; nobody else needs to know one."""
    try:
        token = managing.reset(g.viewer, user_id)
    except AccountError as error:
        return _person(user_id, str(error)), 409
    return _link(token, username=managing.person(user_id).username)


@blueprint.post(PERSON + "/close")
@needs(*LEADS)
def close(user_id: int) -> ResponseReturnValue:
    return _set_active(user_id, active=False)


@blueprint.post(PERSON + "/open")
@needs(*LEADS)
def reopen(user_id: int) -> ResponseReturnValue:
    return _set_active(user_id, active=True)


@blueprint.post(PERSON + "/role")
@needs("admin")
def change_role(user_id: int) -> ResponseReturnValue:
    role = request.form.get("role", "")
    if role not in ROLES:
        return _person(user_id, "Choose a role."), 422
    try:
        managing.set_role(g.viewer, user_id, role)
    except AccountError as error:
        return _person(user_id, str(error)), 409
    flash("The role is changed.", "info")
    return redirect(url_for("people.person", user_id=user_id))


def _set_active(user_id: int, *, active: bool) -> ResponseReturnValue:
    try:
        managing.set_active(g.viewer, user_id, active=active)
    except AccountError as error:
        return _person(user_id, str(error)), 409
    flash("The account is open." if active else "The account is closed, and all its sessions have ended.", "info")
    return redirect(url_for("people.person", user_id=user_id))


def _list(problem: str | None = None) -> str:
    number = request.args.get("page", 1, type=int)
    if not 1 <= number <= LAST_PAGE:
        abort(404)
    return render_template(
        "people.html",
        people=managing.page(number),
        waiting=links.waiting(g.viewer),
        roles=roles.managed(g.viewer),
        role=request.form.get("role", "ra"),
        username=request.form.get("username", "")[:64],
        problem=problem,
        page=number,
        pages=max(1, math.ceil(managing.count() / managing.PAGE_SIZE)),
    )


def _person(user_id: int, problem: str | None = None) -> str:
    found = managing.person(user_id)
    return render_template(
        "person.html",
        person=found,
        today_ms=managing.shared_ms([user_id], days=1).get(user_id, 0),
        week_ms=managing.shared_ms([user_id], days=7).get(user_id, 0),
        lines=changes.newest(user_id),
        manageable=managing.may_manage(g.viewer, found),
        roles=roles.managed(g.viewer),
        problem=problem,
    )


def _link(token: str, *, role: str | None = None, username: str | None = None) -> str:
    address = url_for("join.show", token=token, _external=True)
    return render_template("link.html", address=address, role=role, username=username, days=links.LIFE.days)
