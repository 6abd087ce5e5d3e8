"""People: accounts, identities, the names that stand for them in exports, and the log-ins that the throttle counts."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now_column, one_of, time_column

ROLES = ("ra", "lead", "admin")
NO_PASSWORD = "!"  # noqa: S105 - the opposite of one
OUTCOMES = ("pending", "failed", "succeeded", "refused")

# Without 0, O, 1 and I, which are easily confused.
_PSEUDONYM_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"


def no_password() -> str:
    """Return what stands in place of a hash if the account has no password. It is random: sessions depend on it."""
    return NO_PASSWORD + secrets.token_hex(16)


def new_pseudonym() -> str:
    """Return a random name that stands for the user in exports, for example RA-7KQ2M."""
    return "RA-" + "".join(secrets.choice(_PSEUDONYM_ALPHABET) for _ in range(5))


class User(Base):
    """A user account. Flask-Login needs the four members below the columns."""

    __tablename__ = "ra_users"
    __table_args__ = (one_of("role", ROLES),)

    user_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    username: Mapped[str] = mapped_column(sa.Text, unique=True)
    pseudonym: Mapped[str] = mapped_column(sa.Text, unique=True, default=new_pseudonym)
    password_hash: Mapped[str] = mapped_column(sa.Text)  # begins with `!`: there is no password, see `no_password`
    role: Mapped[str] = mapped_column(sa.Text, server_default="ra")
    active: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.true())
    created_at: Mapped[datetime] = now_column()
    last_login_at: Mapped[datetime | None] = time_column()
    session_epoch: Mapped[int] = mapped_column(sa.Integer, server_default="0")  # adding 1 ends all open sessions
    # Until this time, failed log-ins from other places do not lock this user out.
    unlocked_until: Mapped[datetime | None] = time_column()

    @property
    def has_password(self) -> bool:
        return not self.password_hash.startswith(NO_PASSWORD)

    @property
    def is_active(self) -> bool:
        return self.active

    @property
    def is_authenticated(self) -> bool:
        return self.active

    @property
    def is_anonymous(self) -> bool:
        return False

    def get_id(self) -> str:
        """Return the user's id for the session. It changes with the password and the epoch, which ends old sessions."""
        mark = hashlib.sha256(f"{self.session_epoch}.{self.password_hash}".encode()).hexdigest()[:16]
        return f"{self.user_id}.{mark}"


class Identity(Base):
    """A person as the provider of single sign-on knows them: who has this identity logs in to this account."""

    __tablename__ = "ra_identities"

    issuer: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    subject: Mapped[str] = mapped_column(sa.Text, primary_key=True)  # never given to another person by the issuer
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id), unique=True)
    connected_at: Mapped[datetime] = now_column()


class Pseudonym(Base):
    """The name that stands for a user in exports, apart from the account.

    A trigger of the table `ra_users` copies it here, so that an account made by the release before has it, too. Exports
    read this table. Whoever may read it but not `ra_users` does not learn who is who.
    """

    __tablename__ = "ra_pseudonyms"

    pseudonym: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id), unique=True)


class LoginAttempt(Base):
    """One attempt to log in, kept for a day. The limit on failed log-ins counts these rows."""

    __tablename__ = "ra_login_attempts"
    __table_args__ = (
        one_of("outcome", OUTCOMES),
        sa.Index(None, "username", "attempted_at"),
        sa.Index(None, "address", "attempted_at"),
        sa.Index(None, "attempted_at"),
    )

    attempt_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    username: Mapped[str] = mapped_column(sa.Text)
    address: Mapped[str] = mapped_column(sa.Text)  # an IPv4 address, an IPv6 /64, or `device:` and the browser's mark
    outcome: Mapped[str] = mapped_column(sa.Text, server_default="pending")
    attempted_at: Mapped[datetime] = now_column()


class KnownNetwork(Base):
    """A network from which a user has logged in. Failed log-ins from other networks do not lock the user out there."""

    __tablename__ = "ra_known_networks"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id), primary_key=True)
    network: Mapped[str] = mapped_column(sa.Text, primary_key=True)  # an IPv4 address or an IPv6 /64
    seen_at: Mapped[datetime] = now_column()
