"""Links that let somebody in once, and the append-only record of what was done to accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now_column, one_of, time_column
from app.models.people import ROLES, User

KINDS = ("invite", "reset")  # invite: makes an account. reset: gives an account a new password
CHANGES = (
    "created", "invited", "joined", "reset-link", "link-revoked", "password",
    "closed", "opened", "role", "sessions-ended", "unlocked",
)  # fmt: skip


class Link(Base):
    """A link that works once and until `expires_at`. The table has a hash of its token: nobody can read a link here."""

    __tablename__ = "ra_links"
    __table_args__ = (
        one_of("kind", KINDS),
        one_of("role", ROLES),
        sa.CheckConstraint("(role IS NOT NULL) = (kind = 'invite')", name="invite"),
        sa.CheckConstraint("kind = 'invite' OR user_id IS NOT NULL", name="reset"),
        sa.Index("ix_ra_links_waiting", "expires_at",
                 postgresql_where=sa.text("used_at IS NULL AND revoked_at IS NULL")),
    )  # fmt: skip

    link_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.Text)
    token_sha256: Mapped[str] = mapped_column(sa.Text, unique=True)
    role: Mapped[str | None] = mapped_column(sa.Text)  # of the account that an invitation makes
    username: Mapped[str | None] = mapped_column(sa.Text)  # of that account; null: the person chooses
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.user_id))  # the account of a reset, or that was made
    made_by: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id))
    made_at: Mapped[datetime] = now_column()
    expires_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
    used_at: Mapped[datetime | None] = time_column()
    revoked_at: Mapped[datetime | None] = time_column()


class AccountChange(Base):
    """Who did what to whose account. Apart from the audit of clips, whose rows name a clip."""

    __tablename__ = "ra_account_changes"
    __table_args__ = (one_of("event", CHANGES), sa.Index(None, "user_id", "change_id"))

    change_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    at: Mapped[datetime] = now_column()
    by_user_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.user_id))  # null: a command on the server
    event: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.user_id))  # null: an invitation has no account yet
    details: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")
