"""What leads decide and order: answers of reference, decisions on disagreements, exports, and the record of their acts.

All but drafts and exports are only ever added to; the newest row counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now_column, one_of, time_column
from app.models.people import User

RECEIPTS = ("purge", "erase")  # purge: labels of a study or an age. erase: one clip, everywhere
EXPORT_STATES = ("waiting", "running", "done", "failed", "removed")  # removed: its files are gone, the row stays


class Act(Base):
    """Something that a lead did to a study, a codebook or an export. `app/acts.py` writes and words it."""

    __tablename__ = "ra_acts"
    __table_args__ = (sa.Index(None, "study_id"),)

    act_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    at: Mapped[datetime] = now_column()
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.user_id))  # null: a command on the server
    act: Mapped[str] = mapped_column(sa.Text)
    study_id: Mapped[int | None] = mapped_column(sa.BigInteger)  # no foreign key: the record outlives a purge
    subject: Mapped[str] = mapped_column(sa.Text, server_default="")
    details: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")


class Reference(Base):
    """The labels that a clip should get by one codebook: the answer that coders are compared with. Null: taken back."""

    __tablename__ = "ra_references"
    __table_args__ = (sa.Index(None, "audio_id"),)

    reference_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    at: Mapped[datetime] = now_column()
    audio_id: Mapped[int] = mapped_column(sa.BigInteger)
    codebook_id: Mapped[str] = mapped_column(sa.Text)
    codebook_version: Mapped[str] = mapped_column(sa.Text)
    labels: Mapped[list[Any] | None] = mapped_column(pg.JSONB(none_as_null=True))
    answers: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")
    reason: Mapped[str] = mapped_column(sa.Text, server_default="")
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id))


class Decision(Base):
    """What holds for a clip of a study after its coders disagreed, and why. `label_ids`: what was compared."""

    __tablename__ = "ra_decisions"
    __table_args__ = (sa.CheckConstraint("reason <> ''", name="reason"), sa.Index(None, "item_id"))

    decision_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    at: Mapped[datetime] = now_column()
    item_id: Mapped[int] = mapped_column(sa.ForeignKey("ra_items.item_id"))
    codebook_id: Mapped[str] = mapped_column(sa.Text)
    codebook_version: Mapped[str] = mapped_column(sa.Text)
    labels: Mapped[list[Any]] = mapped_column(pg.JSONB)
    answers: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")
    reason: Mapped[str] = mapped_column(sa.Text)
    label_ids: Mapped[list[int]] = mapped_column(pg.ARRAY(sa.BigInteger))
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id))


class Receipt(Base):
    """What a purge or an erasure removed: counts and names of what is gone, never the content."""

    __tablename__ = "ra_receipts"
    __table_args__ = (one_of("kind", RECEIPTS),)

    receipt_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    at: Mapped[datetime] = now_column()
    kind: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.user_id))
    subject: Mapped[str] = mapped_column(sa.Text)
    content: Mapped[dict[str, Any]] = mapped_column(pg.JSONB)


class Export(Base):
    """An export that was ordered: a named snapshot of judgements, and the files that were made of it."""

    __tablename__ = "ra_exports"
    __table_args__ = (one_of("state", EXPORT_STATES),)

    export_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, unique=True)
    study_ids: Mapped[list[int]] = mapped_column(pg.ARRAY(sa.BigInteger))
    formats: Mapped[list[str]] = mapped_column(pg.ARRAY(sa.Text))
    state: Mapped[str] = mapped_column(sa.Text, server_default="waiting")
    rows_done: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    rows_total: Mapped[int | None] = mapped_column(sa.BigInteger)
    bounds: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")  # what of the tables it holds
    files: Mapped[list[Any]] = mapped_column(pg.JSONB, server_default="[]")  # [{"name", "bytes", "sha256"}]
    error: Mapped[str | None] = mapped_column(sa.Text)
    made_by: Mapped[int | None] = mapped_column(sa.ForeignKey(User.user_id))
    made_at: Mapped[datetime] = now_column()
    began_at: Mapped[datetime | None] = time_column()
    seen_at: Mapped[datetime | None] = time_column()  # the last sign of life of the process that makes it
    finished_at: Mapped[datetime | None] = time_column()
    removed_at: Mapped[datetime | None] = time_column()


class CodebookDraft(Base):
    """The codebook as somebody is editing it. `revision` goes up with every change: who saves on an old one is told."""

    __tablename__ = "ra_codebook_drafts"

    codebook_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(pg.JSONB)
    based_on: Mapped[str | None] = mapped_column(sa.Text)  # the published version from which the draft was begun
    revision: Mapped[int] = mapped_column(sa.Integer, server_default="1")
    changed_by: Mapped[int | None] = mapped_column(sa.ForeignKey(User.user_id))
    changed_at: Mapped[datetime] = now_column()
