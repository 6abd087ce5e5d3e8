"""What leads and administrators see of the accounts, and do to them.

A lead manages research assistants, an administrator everybody, and nobody themselves. Each act locks the account of the
person who acts and the other one, and looks at both again: whoever was closed or lost the role a moment ago cannot act
any more. So of two administrators who close each other at the same moment one stays, and there is always an active one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

from app import roles
from app.models import Assignment, Decline, Exposure, Study, User, db
from app.people import accounts, links
from app.people.accounts import AccountError
from app.wellbeing import wellness

PAGE_SIZE = 50


class NotAllowedError(Exception):
    """The role of the person who acts does not allow this."""


class NobodyError(Exception):
    """There is no account with this number."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """An account and its work. `aside` counts what this person set aside, also if others have labelled it since.

    What they heard is counted in studies that share it with their leads; None: they heard nothing in such a study.
    """

    user_id: int
    username: str
    role: str
    active: bool
    last_login_at: datetime | None
    labelled: int
    in_hand: int
    aside: int
    heard_ms: int | None


def count() -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(User)) or 0


def page(number: int) -> list[Person]:
    """Return one page of the accounts, by name."""
    query = sa.select(User).order_by(User.username).limit(PAGE_SIZE).offset((number - 1) * PAGE_SIZE)
    return _people(db.session.scalars(query).all())


def person(user_id: int) -> Person:
    user = db.session.get(User, user_id)
    if user is None:
        raise NobodyError
    return _people([user])[0]


def may_manage(by: User, other: Person) -> bool:
    return other.user_id != by.user_id and roles.manages(by, other.role)


def invite(by: User, role: str, username: str | None) -> str:
    """Return the token of a new invitation. `username`: of the account; None: the person chooses it."""
    _lock([by.user_id])
    if not by.active or not roles.manages(by, role):
        _refuse()
    name = None
    if username:
        name = accounts.normalise_username(username)
        if name is None:
            raise AccountError(f"“{username}” is not a valid user name.")
        if accounts.find_user(name) is not None:
            raise AccountError(f"There is already a user named {name}.")
    return links.invite(by, role, name)


def reset(by: User, user_id: int) -> str:
    """Return the token of a link that sets a new password. Until it is used, the old password stays."""
    user = _managed(by, user_id)
    if not user.active:
        raise AccountError(f"The account of {user.username} is closed. Open it first.")
    return links.reset(by, user)


def set_active(by: User, user_id: int, *, active: bool) -> None:
    user = _managed(by, user_id)
    if user.active != active:  # else somebody was quicker
        accounts.set_active(user, active=active, by=by)


def set_role(by: User, user_id: int, role: str) -> None:
    user = _managed(by, user_id)
    if not roles.manages(by, role):
        _refuse()
    if user.role != role:
        accounts.set_role(user, role, by=by)


def _managed(by: User, user_id: int) -> User:
    """Return this account, locked, if `by` may manage it now."""
    users = _lock([by.user_id, user_id])
    if user_id not in users:
        raise NobodyError
    user = users[user_id]
    if user.user_id == by.user_id:
        raise AccountError("You cannot do this to your own account. Ask another administrator.")
    if not by.active or not roles.manages(by, user.role):
        _refuse()
    return user


def _lock(user_ids: Iterable[int]) -> dict[int, User]:
    query = sa.select(User).where(User.user_id.in_(user_ids)).order_by(User.user_id).with_for_update(key_share=True)
    return {user.user_id: user for user in db.session.scalars(query.execution_options(populate_existing=True))}


def _refuse() -> NoReturn:
    db.session.rollback()
    raise NotAllowedError


def _people(users: Sequence[User]) -> list[Person]:
    """Count everybody's rows in one pass for each table: one query a person costs ten times as much on large tables."""
    ids = [user.user_id for user in users]
    slots = sa.select(Assignment.user_id, Assignment.state, sa.func.count())
    slots = slots.where(Assignment.user_id.in_(ids), Assignment.state.in_(["open", "submitted"]))
    states = {row[:2]: row[2] for row in db.session.execute(slots.group_by(Assignment.user_id, Assignment.state))}
    aside = _sums(Decline.user_id, sa.func.count(), Decline.user_id.in_(ids), Decline.kind == "skip")
    heard = shared_ms(ids)
    return [
        Person(
            user_id=user.user_id,
            username=user.username,
            role=user.role,
            active=user.active,
            last_login_at=user.last_login_at,
            labelled=states.get((user.user_id, "submitted"), 0),
            in_hand=states.get((user.user_id, "open"), 0),
            aside=aside.get(user.user_id, 0),
            heard_ms=heard.get(user.user_id),
        )
        for user in users
    ]


def shared_ms(user_ids: Sequence[int], days: int | None = None) -> dict[int, int]:
    """Return the milliseconds that these people heard in studies that share it with their leads.

    `days`: only the last ones, today included. Who heard nothing there is left out.
    """
    query = (
        sa.select(Exposure.user_id, sa.func.sum(Exposure.heard_ms))
        .join(Assignment, Assignment.assignment_id == Exposure.assignment_id)
        .join(Study, Study.study_id == Assignment.study_id)
        .where(Exposure.user_id.in_(user_ids), Study.shares_exposure)
        .group_by(Exposure.user_id)
    )
    if days is not None:
        query = query.where(Exposure.at >= wellness.since(days))
    return {row[0]: int(row[1]) for row in db.session.execute(query)}


def _sums(
    user_id: InstrumentedAttribute[int], what: sa.ColumnElement[Any], *which: sa.ColumnElement[bool]
) -> dict[int, int]:
    return {row[0]: int(row[1]) for row in db.session.execute(sa.select(user_id, what).where(*which).group_by(user_id))}
