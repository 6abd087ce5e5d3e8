"""Who has which account by single sign-on. An identity is the issuer and its subject, and never an e-mail address.

An account has one way in: a password or an identity. Whatever gives it one takes the other away, so that a link for a
new password shuts out whoever had a way in before.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from app.models import Identity, User, db


@dataclass(frozen=True)
class Known:
    """A person as the provider knows them."""

    issuer: str
    subject: str


class IdentityTakenError(Exception):
    """There is an account with this identity."""


def user_of(known: Known) -> User | None:
    query = sa.select(User).join(Identity, Identity.user_id == User.user_id)
    return db.session.scalar(query.where(Identity.issuer == known.issuer, Identity.subject == known.subject))


def disconnect(user: User) -> None:
    """Let nobody log in to this account by single sign-on. Nothing is committed."""
    db.session.execute(sa.delete(Identity).where(Identity.user_id == user.user_id))


def connect(known: Known, user: User) -> None:
    """Let this identity log in to this account, in place of the one before. Nothing is committed.

    Raises `IdentityTakenError`.
    """
    db.session.flush()  # a new account gets its number
    disconnect(user)
    try:
        with db.session.begin_nested():  # another request may connect it at this moment
            db.session.add(Identity(issuer=known.issuer, subject=known.subject, user_id=user.user_id))
    except IntegrityError as error:
        raise IdentityTakenError from error
