"""The tables that the app owns. All names begin with `ra_`, and only Flask-Migrate changes them.

`audio_id` has no foreign key, because the app's role may only SELECT from the pipeline's tables, and a foreign key
needs the privilege REFERENCES. A submitted label is never overwritten or deleted: a change is a new row, and its
`revision_of` names the row that it replaces.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

ROLES = ("ra", "lead", "admin")
STATES = ("open", "submitted", "skipped")
OUTCOMES = ("pending", "failed", "succeeded", "refused")
CONFIDENCES = {1: "Low", 2: "Medium", 3: "High"}
NOTE_LENGTH = 2000  # characters

# Without 0, O, 1 and I, which are easily confused.
_PSEUDONYM_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

db = SQLAlchemy()


class Base(DeclarativeBase):
    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


def _now() -> Mapped[datetime]:
    return mapped_column(sa.DateTime(timezone=True), server_default=sa.func.now())


def new_pseudonym() -> str:
    """Return a random name that stands for the user in exports, for example RA-7KQ2M."""
    return "RA-" + "".join(secrets.choice(_PSEUDONYM_ALPHABET) for _ in range(5))


class User(Base):
    """A user account. Flask-Login needs the four members below the columns."""

    __tablename__ = "ra_users"
    __table_args__ = (_one_of("role", ROLES),)

    user_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    username: Mapped[str] = mapped_column(sa.Text, unique=True)
    pseudonym: Mapped[str] = mapped_column(sa.Text, unique=True, default=new_pseudonym)
    password_hash: Mapped[str] = mapped_column(sa.Text)
    role: Mapped[str] = mapped_column(sa.Text, server_default="ra")
    active: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.true())
    created_at: Mapped[datetime] = _now()
    last_login_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    session_epoch: Mapped[int] = mapped_column(sa.Integer, server_default="0")  # adding 1 ends all open sessions
    # Until this time, failed log-ins from other places do not lock this user out.
    unlocked_until: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))

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


class Assignment(Base):
    """One reviewer's work on one clip."""

    __tablename__ = "ra_assignments"
    __table_args__ = (
        _one_of("state", STATES),
        sa.UniqueConstraint("audio_id", "user_id"),
        sa.Index(None, "user_id", "state"),
    )

    assignment_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    audio_id: Mapped[int] = mapped_column(sa.BigInteger)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id))
    state: Mapped[str] = mapped_column(sa.Text, server_default="open")
    opened_at: Mapped[datetime] = _now()
    submitted_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    # The time when this reviewer first saw the model's verdicts. Later labels of this assignment are not blind.
    revealed_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))

    labels: Mapped[list[LabelRow]] = relationship(back_populates="assignment", order_by="LabelRow.label_id")


class LabelRow(Base):
    """One submission of the label form. The newest row of an assignment counts. The first row is always blind."""

    __tablename__ = "ra_labels"
    __table_args__ = (
        sa.CheckConstraint("jsonb_typeof(labels) = 'array' AND jsonb_array_length(labels) > 0", name="labels"),
        sa.CheckConstraint("confidence BETWEEN 1 AND 3", name="confidence"),
        sa.CheckConstraint(f"char_length(note) <= {NOTE_LENGTH}", name="note"),
        sa.UniqueConstraint("assignment_id", "submission_key"),
    )

    label_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    assignment_id: Mapped[int] = mapped_column(sa.ForeignKey(Assignment.assignment_id))
    # Made together with the form, so a form that the browser sends twice is stored once.
    submission_key: Mapped[UUID] = mapped_column(pg.UUID(as_uuid=True))
    codebook_id: Mapped[str] = mapped_column(sa.Text)
    codebook_version: Mapped[str] = mapped_column(sa.Text)
    labels: Mapped[list[Any]] = mapped_column(pg.JSONB)
    confidence: Mapped[int | None] = mapped_column(sa.SmallInteger)
    note: Mapped[str] = mapped_column(sa.Text, server_default="")
    blind: Mapped[bool] = mapped_column(sa.Boolean)
    revision_of: Mapped[int | None] = mapped_column(sa.ForeignKey("ra_labels.label_id"), unique=True)
    created_at: Mapped[datetime] = _now()

    assignment: Mapped[Assignment] = relationship(back_populates="labels")


class LoginAttempt(Base):
    """One attempt to log in, kept for a day. The limit on failed log-ins counts these rows."""

    __tablename__ = "ra_login_attempts"
    __table_args__ = (
        _one_of("outcome", OUTCOMES),
        sa.Index(None, "username", "attempted_at"),
        sa.Index(None, "address", "attempted_at"),
        sa.Index(None, "attempted_at"),
    )

    attempt_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    username: Mapped[str] = mapped_column(sa.Text)
    address: Mapped[str] = mapped_column(sa.Text)  # an IPv4 address, an IPv6 /64, or `device:` and the browser's mark
    outcome: Mapped[str] = mapped_column(sa.Text, server_default="pending")
    attempted_at: Mapped[datetime] = _now()


class KnownNetwork(Base):
    """A network from which a user has logged in. Failed log-ins from other networks do not lock the user out there."""

    __tablename__ = "ra_known_networks"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id), primary_key=True)
    network: Mapped[str] = mapped_column(sa.Text, primary_key=True)  # an IPv4 address or an IPv6 /64
    seen_at: Mapped[datetime] = _now()
