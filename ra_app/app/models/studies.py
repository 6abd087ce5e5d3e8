"""Studies: which clips are labelled, by how many people, by which codebook, and what these people are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now_column, one_of, time_column

# blind: the model's verdicts are never shown. reveal: on request, after the own label. assisted: from the beginning.
MODES = ("blind", "assisted", "reveal")
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


class Study(Base):
    __tablename__ = "ra_studies"
    __table_args__ = (
        one_of("mode", MODES),
        one_of("state", STUDY_STATES),
        one_of("selection", SELECTIONS),
        sa.CheckConstraint("coders_per_item BETWEEN 1 AND 20", name="coders_per_item"),
        sa.CheckConstraint("lease_s BETWEEN 60 AND 86400", name="lease_s"),
        sa.CheckConstraint("shows <@ ARRAY['filename', 'batch', 'platform']", name="shows"),
    )

    study_id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, unique=True)
    mode: Mapped[str] = mapped_column(sa.Text, server_default="reveal")
    state: Mapped[str] = mapped_column(sa.Text, server_default="open")
    selection: Mapped[str] = mapped_column(sa.Text, server_default="list")
    coders_per_item: Mapped[int] = mapped_column(sa.SmallInteger, server_default="1")
    codebook_id: Mapped[str | None] = mapped_column(sa.Text)  # null: the codebook that the app is started with
    codebook_version: Mapped[str | None] = mapped_column(sa.Text)
    shows: Mapped[list[str]] = mapped_column(pg.ARRAY(sa.Text), server_default="{}")
    lease_s: Mapped[int] = mapped_column(sa.Integer, server_default=str(LEASE_S))
    seed: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")  # of the order of a drawn list
    settings: Mapped[dict[str, Any]] = mapped_column(pg.JSONB, server_default="{}")  # see app/wellness.py
    created_at: Mapped[datetime] = now_column()

    # How far `app/take_up.py` has looked for flagged clips: at the end of the queue, and in its rounds over all of it.
    head_audio_id: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    round_audio_id: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    taken_up_at: Mapped[datetime | None] = time_column()
