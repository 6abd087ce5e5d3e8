"""What people chose to protect themselves, and the append-only record of how these protections were used."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now_column, one_of
from app.models.people import User
from app.models.studies import Study

OF_CLIPS = ("veil-lifted", "hidden")  # the text was uncovered; sound and text were put away
BREAKS = ("break-proposed", "break-taken", "break-dismissed")
BUDGETS = ("soft-budget", "hard-budget")  # a limit of the day was reached; once for each person, limit and day
WELLBEING = ("preferences", *OF_CLIPS, *BREAKS, *BUDGETS)  # preferences: somebody changed their own choices


class Preferences(Base):
    """One person's own choices. What is not named in `content` is as the study sets it."""

    __tablename__ = "ra_preferences"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id), primary_key=True, autoincrement=False)
    content: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")
    changed_at: Mapped[datetime] = now_column()


class WellbeingEntry(Base):
    __tablename__ = "ra_wellbeing"
    __table_args__ = (one_of("event", WELLBEING), sa.Index(None, "user_id", "at"))

    entry_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    at: Mapped[datetime] = now_column()
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id))
    study_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Study.study_id))
    audio_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    event: Mapped[str] = mapped_column(sa.Text)
    details: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")
