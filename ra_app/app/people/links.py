"""Links that work once: an invitation makes an account, a reset gives an account a new password.

The token is in the link only; the table has its SHA-256. A token has 256 random bits, so its hash cannot be turned
back, and a plain lookup tells nothing. A link counts only while the person who made it may still make it: somebody
whose account is closed, or who is no lead any more, leaves no working links behind.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from app import roles
from app.models import Link, User, db
from app.people import changes

LIFE = timedelta(days=7)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A link that nobody has used yet."""

    link_id: int
    kind: str
    role: str | None
    username: str | None  # of the invitation, or of the account whose password it sets
    made_by: str
    expires_at: datetime
    manageable: bool  # by the viewer


def invite(by: User, role: str, username: str | None) -> str:
    """Return the token of a new invitation. The caller has checked that `by` may invite this role."""
    return _make(by, None, kind="invite", role=role, username=username)


def reset(by: User, user: User) -> str:
    """Return the token of a new link that sets this user's password. Earlier ones of this user work no more."""
    revoke_resets(user)
    return _make(by, user, kind="reset", user_id=user.user_id)


def find(token: str, *, lock: bool = False) -> Link | None:
    """Return the link of this token if it works now. With `lock`, no other transaction uses it before this one ends."""
    if not _TOKEN.fullmatch(token):
        return None
    query = sa.select(Link).where(Link.token_sha256 == _hash(token), *_usable())
    link = db.session.scalar(query)
    if lock and link is not None:
        if link.user_id is not None:  # the account first, as whoever closes it does; else the two could deadlock
            _lock_user(link.user_id)
        link = db.session.scalar(query.with_for_update().execution_options(populate_existing=True))
    return link if link is not None and _still_allowed(link) else None


def _lock_user(user_id: int) -> None:
    db.session.execute(sa.select(User.user_id).where(User.user_id == user_id).with_for_update(key_share=True))


def use(link: Link, user: User) -> None:
    """Mark a locked link as used by this account."""
    link.user_id = user.user_id
    link.used_at = sa.func.now()


def revoke(link_id: int, by: User) -> bool:
    """Take a link back. Return False if there is none that waits, or if `by` may not manage it."""
    link = db.session.scalar(sa.select(Link).where(Link.link_id == link_id, *_usable()).with_for_update())
    user = db.session.get(User, link.user_id) if link is not None and link.user_id is not None else None
    if link is None or not roles.manages(by, user.role if user is not None else link.role):
        db.session.rollback()
        return False
    link.revoked_at = sa.func.now()
    changes.note(by, "link-revoked", user, link_id=link_id)
    db.session.commit()
    return True


def revoke_resets(user: User) -> None:
    _revoke(Link.user_id == user.user_id, Link.kind == "reset")


def revoke_made_by(user: User) -> None:
    _revoke(Link.made_by == user.user_id)


def waiting(viewer: User) -> list[Waiting]:
    """Return the links that nobody has used yet, the newest first."""
    maker, owner = aliased(User), aliased(User)
    rows = db.session.execute(
        sa.select(Link, maker, owner)
        .join(maker, maker.user_id == Link.made_by)
        .outerjoin(owner, owner.user_id == Link.user_id)
        .where(*_usable())
        .order_by(Link.link_id.desc())
    )
    return [
        Waiting(
            link_id=link.link_id,
            kind=link.kind,
            role=link.role,
            username=owner.username if owner is not None else link.username,
            made_by=maker.username,
            expires_at=link.expires_at,
            manageable=roles.manages(viewer, owner.role if owner is not None else link.role),
        )
        for link, maker, owner in rows
    ]


def _make(by: User, user: User | None, **values: object) -> str:
    token = secrets.token_urlsafe(32)
    link = Link(token_sha256=_hash(token), made_by=by.user_id, expires_at=sa.func.now() + LIFE, **values)
    db.session.add(link)
    db.session.flush()
    details = {name: values[name] for name in ("role", "username") if values.get(name)}
    changes.note(by, "reset-link" if user is not None else "invited", user, link_id=link.link_id, **details)
    db.session.commit()
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _usable() -> tuple[sa.ColumnElement[bool], ...]:
    return Link.used_at.is_(None), Link.revoked_at.is_(None), Link.expires_at > sa.func.now()


def _still_allowed(link: Link) -> bool:
    maker = db.session.get_one(User, link.made_by, populate_existing=True)
    role = link.role
    if link.kind == "reset":
        user = db.session.get_one(User, link.user_id, populate_existing=True)
        if not user.active:
            return False
        role = user.role
    return maker.active and roles.manages(maker, role)


def _revoke(*which: sa.ColumnElement[bool]) -> None:
    db.session.execute(sa.update(Link).where(*which, *_usable()).values(revoked_at=sa.func.now()))
