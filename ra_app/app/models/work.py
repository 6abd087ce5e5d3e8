"""Who works on what: the clips of a study, the slots in which they are labelled, drafts, and declined clips.

An assignment is a slot: an item and a coder number. It waits for a person (`free`), is held (`open`), or is done.
`open` with a `claimed_until` in the past, or without one, has lapsed: others may take it, and until then its last
holder may go on. `skipped` may be taken by others, too; its `user_id` says who set the clip aside. A slot that waits
for a person is `withdrawn` while its clip is not flagged any more, or has more slots than it shall have coders.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, now_column, one_of, time_column
from app.models.labels import LabelRow
from app.models.people import User
from app.models.studies import Study

STATES = ("free", "open", "submitted", "skipped", "withdrawn")
DECLINES = ("skip", "pass")  # skip: may be taken up again by the same person. pass: is never offered to them again


class Item(Base):
    """A clip in a study. `audio_id` has no foreign key: the app's role may only SELECT from the pipeline's tables."""

    __tablename__ = "ra_items"
    __table_args__ = (
        sa.UniqueConstraint("study_id", "audio_id"),
        sa.CheckConstraint("inclusion_probability > 0 AND inclusion_probability <= 1", name="inclusion_probability"),
        sa.CheckConstraint("coders BETWEEN 1 AND 20", name="coders"),
        sa.Index(None, "audio_id"),
    )

    item_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey(Study.study_id))
    audio_id: Mapped[int] = mapped_column(sa.BigInteger)
    stratum: Mapped[str] = mapped_column(sa.Text, server_default="flagged")
    inclusion_probability: Mapped[float] = mapped_column(sa.Float, server_default="1")
    position: Mapped[int] = mapped_column(sa.BigInteger)  # says nothing of a verdict: the clip's number, or drawn
    coders: Mapped[int | None] = mapped_column(sa.SmallInteger)  # of this clip; null: as many as the study says
    doubtful: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.false())  # of the transcript, when taken up
    added_at: Mapped[datetime] = now_column()
    withdrawn_at: Mapped[datetime | None] = time_column()


class Assignment(Base):
    """A slot. Study, position and doubt are its item's; they stand here too, so that one index finds the next slot."""

    __tablename__ = "ra_assignments"
    __table_args__ = (
        one_of("state", STATES),
        sa.CheckConstraint("(user_id IS NULL) = (state IN ('free', 'withdrawn'))", name="holder"),
        sa.CheckConstraint("coder_number >= 1", name="coder_number"),
        sa.UniqueConstraint("item_id", "coder_number"),
        sa.Index("ux_ra_assignments_item_user", "item_id", "user_id", unique=True,
                 postgresql_where=sa.text("user_id IS NOT NULL")),
        sa.Index("ix_ra_assignments_person", "audio_id", "user_id", postgresql_where=sa.text("user_id IS NOT NULL")),
        # Nobody holds a clip in two studies at a time: its page would not know which of them it is for.
        sa.Index("ux_ra_assignments_held", "audio_id", "user_id", unique=True,
                 postgresql_where=sa.text("state = 'open'")),
        sa.Index(None, "user_id", "state"),
        sa.Index("ix_ra_assignments_free", "study_id", "position", postgresql_where=sa.text("state = 'free'")),
        sa.Index("ix_ra_assignments_free_doubtful", "study_id", "position",
                 postgresql_where=sa.text("state = 'free' AND doubtful")),
        sa.Index("ix_ra_assignments_open", "study_id", "claimed_until", postgresql_where=sa.text("state = 'open'")),
        sa.Index("ix_ra_assignments_skipped", "study_id", "position", postgresql_where=sa.text("state = 'skipped'")),
        sa.Index("ix_ra_assignments_own", "user_id", "study_id", "position",
                 postgresql_where=sa.text("user_id IS NOT NULL")),
        sa.Index("ix_ra_assignments_done", "user_id", "submitted_at", "assignment_id",
                 postgresql_where=sa.text("state = 'submitted'")),
    )  # fmt: skip

    assignment_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    audio_id: Mapped[int] = mapped_column(sa.BigInteger)
    item_id: Mapped[int] = mapped_column(sa.ForeignKey(Item.item_id))
    coder_number: Mapped[int] = mapped_column(sa.SmallInteger)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey(Study.study_id))
    position: Mapped[int] = mapped_column(sa.BigInteger)
    doubtful: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.false())
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.user_id))
    state: Mapped[str] = mapped_column(sa.Text, server_default="open")
    # The default is for rows of the release before; this release writes null until somebody holds the slot.
    opened_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True), server_default=sa.func.now())
    claimed_until: Mapped[datetime | None] = time_column()
    submitted_at: Mapped[datetime | None] = time_column()
    # The time when this reviewer first saw the model's verdicts. Later labels of this assignment are not blind.
    revealed_at: Mapped[datetime | None] = time_column()
    active_ms: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")  # at work on the page, by this holder

    labels: Mapped[list[LabelRow]] = relationship(back_populates="assignment", order_by=LabelRow.label_id)
    study: Mapped[Study] = relationship(lazy="joined", innerjoin=True)


class Decline(Base):
    """A person who did not want an item, and whether they may change their mind. The slot may be another's by now."""

    __tablename__ = "ra_declines"
    __table_args__ = (one_of("kind", DECLINES), sa.Index(None, "user_id", "kind"))

    item_id: Mapped[int] = mapped_column(sa.ForeignKey(Item.item_id), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.Text)
    declined_at: Mapped[datetime] = now_column()


class Draft(Base):
    """The unsent content of one person's form for a slot. It stays when the slot goes to somebody else."""

    __tablename__ = "ra_drafts"
    __table_args__ = (sa.Index(None, "user_id"),)

    assignment_id: Mapped[int] = mapped_column(sa.ForeignKey(Assignment.assignment_id), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(pg.JSONB)  # labels, confidence, note, as in the form
    base_label_id: Mapped[int | None] = mapped_column(sa.ForeignKey("ra_labels.label_id"))  # the label it changes
    updated_at: Mapped[datetime] = now_column()
