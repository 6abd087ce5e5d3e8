"""Labels: one row per submission, never changed and never deleted. A trigger in the database refuses both."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, now_column, one_of
from app.models.studies import MODES

if TYPE_CHECKING:
    from app.models.work import Assignment

CONFIDENCES = {1: "Low", 2: "Medium", 3: "High"}
NOTE_LENGTH = 2000  # characters


class LabelRow(Base):
    """One submission of the label form. The newest row of an assignment counts; `revision_of` names the one before."""

    __tablename__ = "ra_labels"
    __table_args__ = (
        sa.CheckConstraint("jsonb_typeof(labels) = 'array' AND jsonb_array_length(labels) > 0", name="labels"),
        sa.CheckConstraint("confidence BETWEEN 1 AND 3", name="confidence"),
        sa.CheckConstraint(f"char_length(note) <= {NOTE_LENGTH}", name="note"),
        one_of("mode", MODES),
        sa.UniqueConstraint("assignment_id", "submission_key"),
    )

    label_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    assignment_id: Mapped[int] = mapped_column(sa.ForeignKey("ra_assignments.assignment_id"))
    # Made together with the form, so a form that the browser sends twice is stored once.
    submission_key: Mapped[UUID] = mapped_column(pg.UUID(as_uuid=True))
    codebook_id: Mapped[str] = mapped_column(sa.Text)
    codebook_version: Mapped[str] = mapped_column(sa.Text)
    codebook_sha256: Mapped[str | None] = mapped_column(sa.Text)  # null: given before codebooks were published
    labels: Mapped[list[Any]] = mapped_column(pg.JSONB)
    answers: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")  # to the codebook's questions
    confidence: Mapped[int | None] = mapped_column(sa.SmallInteger)
    note: Mapped[str] = mapped_column(sa.Text, server_default="")
    blind: Mapped[bool] = mapped_column(sa.Boolean)  # the reviewer had not seen the model's verdicts, in no study
    mode: Mapped[str | None] = mapped_column(sa.Text)  # the study's, at that time; null: written by the release before
    transcript_id: Mapped[int | None] = mapped_column(sa.BigInteger)  # the transcript that the page showed
    classification_ids: Mapped[list[int]] = mapped_column(pg.ARRAY(sa.BigInteger), server_default="{}")  # as shown
    revision_of: Mapped[int | None] = mapped_column(sa.ForeignKey("ra_labels.label_id"), unique=True)
    active_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    heard_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    heard: Mapped[list[Any]] = mapped_column(pg.JSONB, server_default="[]")  # [[from, to], ...] in seconds, apart
    spans: Mapped[list[Any]] = mapped_column(pg.JSONB, server_default="[]")  # marked parts, like `heard`
    created_at: Mapped[datetime] = now_column()

    assignment: Mapped[Assignment] = relationship(back_populates="labels")
