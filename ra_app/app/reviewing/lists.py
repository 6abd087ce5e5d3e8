"""What the queue page shows of one person's work. Every query reads the app's own tables along an index of the person's
rows, or counts up to a limit; nothing counts the pipeline's queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from app.models import Assignment, Decline, Item, Study, db
from app.pipeline import audio_files
from app.reviewing.claims import LAPSED, LAST, NOT_HAD, open_studies
from app.studies import take_up

PAGE_SIZE = 25
RECENT = 10
SHOWS = ("open", "done", "skipped")
MOST_WAITING = 500  # clips that wait are counted up to this number

# Only so many free slots are looked at, after the person's last clip and before it: somebody who works ahead of the
# others has labelled many clips that still have a free slot.
_WAITING = sa.text(f"""
    WITH near AS (
        (SELECT * FROM ra_assignments WHERE study_id = :study_id AND state = 'free' AND position > {LAST}
         ORDER BY position LIMIT :look)
        UNION ALL
        (SELECT * FROM ra_assignments WHERE study_id = :study_id AND state = 'free' AND position <= {LAST}
         ORDER BY position LIMIT :look)
    )
    SELECT count(DISTINCT a.item_id) FROM near a
    WHERE a.coder_number <= :coders {NOT_HAD}
""")  # noqa: S608 - an expression that stands in claims.py
# Set aside by this person, not labelled by them, and to be had: nobody else holds it or has labelled it.
_ASIDE = sa.text(f"""
    EXISTS (SELECT FROM ra_assignments a JOIN ra_studies s USING (study_id)
        WHERE a.item_id = ra_declines.item_id AND a.coder_number <= least(ra_items.coders, s.coders_per_item)
          AND (a.state IN ('free', 'skipped', 'withdrawn') OR a.state = 'open' AND {LAPSED}))
""")


@dataclass(frozen=True, kw_only=True)
class Progress:
    labelled: int
    skipped: int
    in_hand: int
    waiting: int  # at most MOST_WAITING

    @property
    def total(self) -> int:
        return self.labelled + self.skipped + self.in_hand + self.waiting

    @property
    def more(self) -> bool:
        """Whether more clips wait than were counted."""
        return self.waiting >= MOST_WAITING


@dataclass(frozen=True, kw_only=True)
class ClipLine:
    """One row of a list on the queue page."""

    audio_id: int
    assignment_id: int | None  # None: set aside; the slot may be somebody else's
    duration_s: float | None
    processed_at: datetime | None
    doubtful: bool
    original_filename: str | None  # None: its study does not show it
    batch_id: str | None


def progress(user_id: int, *, arrivals: bool = False) -> Progress:
    """Return this person's progress. `arrivals`: also count clips that were flagged since the last look."""
    counts = db.session.execute(
        sa.select(Assignment.state, sa.func.count())
        .where(Assignment.user_id == user_id, Assignment.state.in_(["open", "submitted"]))
        .group_by(Assignment.state)
    )
    states = {row[0]: row[1] for row in counts}
    aside = db.session.scalar(sa.select(sa.func.count()).select_from(_aside(user_id, "all")))
    return Progress(
        labelled=states.get("submitted", 0),
        in_hand=states.get("open", 0),
        skipped=aside or 0,
        waiting=min(MOST_WAITING, sum(_waiting(study, user_id, arrivals) for study in open_studies(user_id))),
    )


def recent(user_id: int) -> list[int]:
    """Return the clips that this person labelled last, the newest last: what an undo goes back to."""
    query = (
        sa.select(Assignment.audio_id)
        .where(Assignment.user_id == user_id, Assignment.state == "submitted")
        .order_by(Assignment.submitted_at.desc(), Assignment.assignment_id.desc())
        .limit(RECENT)
    )
    return list(db.session.scalars(query))[::-1]


def _waiting(study: Row[Any], user_id: int, arrivals: bool) -> int:
    values = {
        "study_id": study.study_id,
        "coders": study.coders_per_item,
        "user_id": user_id,
        "look": MOST_WAITING * study.coders_per_item,
    }
    taken_up: int = db.session.execute(_WAITING, values).scalar_one()
    if arrivals and study.selection == "flagged" and taken_up < take_up.LOW:
        return taken_up + take_up.count_arrivals(study)
    return taken_up


def _slots(user_id: int, show: str, quality: str) -> sa.Subquery:
    """Select audio_id, assignment_id, study_id, doubtful and a time, by which the list is ordered."""
    state = "open" if show == "open" else "submitted"
    query = sa.select(
        Assignment.audio_id,
        Assignment.assignment_id,
        Assignment.study_id,
        Assignment.doubtful,
        Assignment.submitted_at.label("at"),
    ).where(Assignment.user_id == user_id, Assignment.state == state)
    if quality != "all":
        query = query.where(Assignment.doubtful == (quality == "doubtful"))
    return query.subquery()


def _aside(user_id: int, quality: str) -> sa.Subquery:
    query = (
        sa.select(
            Item.audio_id,
            sa.null().cast(sa.BigInteger).label("assignment_id"),
            Item.study_id,
            Item.doubtful,
            Decline.declined_at.label("at"),
        )
        .join(Decline, Decline.item_id == Item.item_id)
        .where(Decline.user_id == user_id, Decline.kind == "skip", _ASIDE)
    )
    if quality != "all":
        query = query.where(Item.doubtful == (quality == "doubtful"))
    return query.subquery()


def _list(user_id: int, show: str, quality: str) -> sa.Subquery:
    return _aside(user_id, quality) if show == "skipped" else _slots(user_id, show, quality)


def count_clips(user_id: int, quality: str) -> dict[str, int]:
    """Return how many clips each of the user's lists holds."""
    counts = {}
    for show in SHOWS:
        listed = _list(user_id, show, quality)
        counts[show] = db.session.scalar(sa.select(sa.func.count()).select_from(listed)) or 0
    return counts


def list_clips(user_id: int, show: str, quality: str, page: int) -> list[ClipLine]:
    """Return one page of a list of the user's: clips in hand, labelled, or set aside; the newest first."""
    listed = _list(user_id, show, quality)
    columns = audio_files.c
    query = (
        sa.select(
            listed.c.audio_id,
            listed.c.assignment_id,
            listed.c.doubtful,
            columns.duration_s,
            columns.processed_at,
            sa.case((_shows("filename"), columns.original_filename)).label("original_filename"),
            sa.case((_shows("batch"), columns.batch_id)).label("batch_id"),
        )
        .select_from(listed)
        .join(Study, Study.study_id == listed.c.study_id)
        .outerjoin(audio_files, columns.audio_id == listed.c.audio_id)
        .order_by(listed.c.at.desc().nulls_last(), listed.c.audio_id)
        .limit(PAGE_SIZE)
        .offset((page - 1) * PAGE_SIZE)
    )
    return [ClipLine(**row) for row in db.session.execute(query).mappings()]


def _shows(what: str) -> sa.ColumnElement[bool]:
    return sa.literal(what) == sa.any_(Study.shows)
