"""Studies: which clips are labelled, by how many people, by which codebook, and what these people are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now_column, one_of, time_column
from app.models.people import User

# blind: the model's verdicts are never shown. reveal: on request, after the own label. assisted: from the beginning.
MODES = ("blind", "assisted", "reveal")
KINDS = (
    "study",
    "training",
)  # training: compared with the references, and in no number of a paper
STUDY_STATES = ("open", "paused", "closed")  # paused: nobody gets a new clip. closed: no label is taken either.
SELECTIONS = ("flagged", "list")  # flagged: the study takes up the pipeline's flagged clips by itself
SHOWS = ("filename", "batch", "platform")  # what of a clip may be shown before it is labelled
LEASE_S = 900  # seconds for which a clip is held without a sign of life from its reviewer
DEFAULT_STUDY = "Flagged clips"


class PublishedCodebook(Base):
    """One version of a codebook, as it was when the app used it first. The content of a version never changes."""

    __tablename__ = "ra_codebooks"

    codebook_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    version: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    sha256: Mapped[str] = mapped_column(sa.Text)  # of the canonical content, see Codebook.canonical
    content: Mapped[dict[str, Any]] = mapped_column(pg.JSONB)
    published_at: Mapped[datetime] = now_column()
    published_by: Mapped[int | None] = mapped_column(sa.ForeignKey(User.user_id))  # null: a deploy, from its file
    note: Mapped[str] = mapped_column(sa.Text, server_default="")  # what is new in this version, and why


class Study(Base):
    __tablename__ = "ra_studies"
    __table_args__ = (
        one_of("kind", KINDS),
        one_of("mode", MODES),
        one_of("state", STUDY_STATES),
        one_of("selection", SELECTIONS),
        sa.CheckConstraint("coders_per_item BETWEEN 1 AND 20", name="coders_per_item"),
        sa.CheckConstraint("double_share BETWEEN 0 AND 1", name="double_share"),
        sa.CheckConstraint("lease_s BETWEEN 60 AND 86400", name="lease_s"),
        sa.CheckConstraint("shows <@ ARRAY['filename', 'batch', 'platform']", name="shows"),
    )

    study_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, unique=True)
    kind: Mapped[str] = mapped_column(sa.Text, server_default="study")
    description: Mapped[str] = mapped_column(sa.Text, server_default="")
    mode: Mapped[str] = mapped_column(sa.Text, server_default="reveal")
    state: Mapped[str] = mapped_column(sa.Text, server_default="open")
    selection: Mapped[str] = mapped_column(sa.Text, server_default="list")
    policies: Mapped[list[str]] = mapped_column(pg.ARRAY(sa.Text), server_default="{}")  # flagged by these; none: any
    coders_per_item: Mapped[int] = mapped_column(sa.SmallInteger, server_default="1")
    double_share: Mapped[float] = mapped_column(sa.Float, server_default="1")  # of clips with all coders; the rest: one
    everybody: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.true())  # false: only its members take part
    codebook_id: Mapped[str | None] = mapped_column(sa.Text)  # null: the codebook that the app is started with
    codebook_version: Mapped[str | None] = mapped_column(sa.Text)
    shows: Mapped[list[str]] = mapped_column(pg.ARRAY(sa.Text), server_default="{}")
    lease_s: Mapped[int] = mapped_column(sa.Integer, server_default=str(LEASE_S))
    seed: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")  # of the order of a drawn list
    settings: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")  # see app/wellbeing/wellness.py
    shares_exposure: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.false())  # minutes heard, to the lead
    design: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")  # how its list was drawn
    created_by: Mapped[int | None] = mapped_column(sa.BigInteger)  # a user's number; null: made by a migration
    created_at: Mapped[datetime] = now_column()
    closed_at: Mapped[datetime | None] = time_column()

    # How far `app/studies/take_up.py` has looked for flagged clips: at the end of the queue, and in its rounds over it.
    head_audio_id: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    round_audio_id: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    taken_up_at: Mapped[datetime | None] = time_column()


class Member(Base):
    """Somebody who takes part in a study that is not for everybody."""

    __tablename__ = "ra_study_members"
    __table_args__ = (sa.Index(None, "user_id"),)

    study_id: Mapped[int] = mapped_column(sa.ForeignKey(Study.study_id), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.user_id), primary_key=True)
    added_at: Mapped[datetime] = now_column()
