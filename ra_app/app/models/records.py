"""Append-only records: who did what with which clip, and who heard which seconds of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now_column, one_of
from app.models.people import User

# opened: the clip was shown. listened: its audio was sent, also ahead of time; `Exposure` has what was played.
EVENTS = ("claimed", "opened", "listened", "labelled", "revealed", "skipped", "passed")


class AuditEntry(Base):
    __tablename__ = "ra_audit"
    __table_args__ = (one_of("event", EVENTS), sa.Index(None, "user_id", "audio_id"), sa.Index(None, "audio_id"))

    entry_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    at: Mapped[datetime] = now_column()
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id))
    event: Mapped[str] = mapped_column(sa.Text)
    audio_id: Mapped[int] = mapped_column(sa.BigInteger)
    assignment_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    details: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")


class Exposure(Base):
    """What one person heard of a clip since the page's last report."""

    __tablename__ = "ra_exposures"
    __table_args__ = (
        sa.CheckConstraint("heard_ms >= 0", name="heard_ms"),
        sa.Index(None, "user_id", "audio_id"),
        sa.Index(None, "user_id", "at"),
    )

    exposure_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    at: Mapped[datetime] = now_column()
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id))
    audio_id: Mapped[int] = mapped_column(sa.BigInteger)
    assignment_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    heard_ms: Mapped[int] = mapped_column(sa.BigInteger)
    intervals: Mapped[list[Any]] = mapped_column(pg.JSONB)  # [[from, to], ...] in seconds of the clip
