"""Queries on the pipeline's tables: the queue of flagged clips, one clip, and the model's verdicts.

Review is blind: only `verdicts` selects a policy, a verdict or a score, so no other query can show them by accident.
Clips are ordered by `audio_id`, which does not depend on the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from app.models import Assignment, db

PAGE_SIZE = 25
SHOWS = ("todo", "done", "skipped")

# Tables without a MetaData, so migrations do not see them.
ra_queue = sa.table(
    "ra_queue",
    sa.column("audio_id", sa.BigInteger),
    sa.column("batch_id", sa.Text),
    sa.column("original_filename", sa.Text),
    sa.column("s3_opus_path", sa.Text),
    sa.column("duration_s", sa.Float),
    sa.column("processed_at", sa.DateTime(timezone=True)),
    sa.column("transcript", sa.Text),
    sa.column("language", sa.Text),
    sa.column("segments", pg.JSONB),
    sa.column("finding", sa.Text),
    sa.column("reasons", pg.ARRAY(sa.Text)),
)
audio_files = sa.table(
    "audio_files",
    sa.column("audio_id", sa.BigInteger),
    sa.column("batch_id", sa.Text),
    sa.column("original_filename", sa.Text),
    sa.column("s3_opus_path", sa.Text),
    sa.column("duration_s", sa.Float),
    sa.column("processed_at", sa.DateTime(timezone=True)),
)
transcripts = sa.table(
    "transcripts",
    sa.column("transcript_id", sa.BigInteger),
    sa.column("audio_id", sa.BigInteger),
    sa.column("text", sa.Text),
    sa.column("language", sa.Text),
    sa.column("segments", pg.JSONB),
    sa.column("finding", sa.Text),
    sa.column("reasons", pg.ARRAY(sa.Text)),
    sa.column("created_at", sa.DateTime(timezone=True)),
)
verdicts_in_force = sa.table(
    "verdicts_in_force",
    sa.column("audio_id", sa.BigInteger),
    sa.column("policy", sa.Text),
    sa.column("policy_version", sa.Text),
    sa.column("model", sa.Text),
    sa.column("violates", sa.Boolean),
    sa.column("score", sa.Float),
    sa.column("threshold", sa.Float),
)


@dataclass(frozen=True, kw_only=True)
class Progress:
    flagged: int
    labelled: int
    skipped: int

    @property
    def todo(self) -> int:
        return self.flagged - self.labelled - self.skipped


@dataclass(frozen=True, kw_only=True)
class ClipLine:
    """One row of a list on the queue page."""

    audio_id: int
    batch_id: str
    original_filename: str
    duration_s: float | None
    processed_at: datetime | None
    finding: str | None

    @property
    def doubtful(self) -> bool:
        return self.finding == "doubtful"


@dataclass(frozen=True, kw_only=True)
class Segment:
    start: float
    end: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Clip:
    audio_id: int
    batch_id: str
    original_filename: str
    duration_s: float | None
    transcript: str
    language: str | None
    segments: tuple[Segment, ...]
    finding: str
    reasons: tuple[str, ...]  # the pipeline's keys

    @property
    def doubtful(self) -> bool:
        return self.finding == "doubtful"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    policy: str
    policy_version: str
    model: str
    violates: bool
    score: float
    threshold: float


def _queue_of(user_id: int) -> sa.Join:
    """The queue, joined with this user's assignments."""
    on = sa.and_(Assignment.audio_id == ra_queue.c.audio_id, Assignment.user_id == user_id)
    return sa.outerjoin(ra_queue, Assignment, on)


_TO_REVIEW = sa.or_(Assignment.state.is_(None), Assignment.state == "open")


def progress(user_id: int) -> Progress:
    row = db.session.execute(
        sa.select(
            sa.func.count(),
            sa.func.count().filter(Assignment.state == "submitted"),
            sa.func.count().filter(Assignment.state == "skipped"),
        ).select_from(_queue_of(user_id))
    ).one()
    return Progress(flagged=row[0], labelled=row[1], skipped=row[2])


def _labelled_of(user_id: int) -> tuple[sa.FromClause, sa.ColumnElement[Any], sa.ColumnElement[bool]]:
    """Clips that the user has labelled, also those that have left the queue -> source, their finding, condition."""
    newest = (
        sa.select(transcripts.c.finding)
        .where(transcripts.c.audio_id == audio_files.c.audio_id)
        .order_by(transcripts.c.created_at.desc(), transcripts.c.transcript_id.desc())
        .limit(1)
        .scalar_subquery()
    )
    source = sa.join(audio_files, Assignment, Assignment.audio_id == audio_files.c.audio_id)
    return source, newest, sa.and_(Assignment.user_id == user_id, Assignment.state == "submitted")


def _of_quality(finding: sa.ColumnElement[Any], quality: str) -> sa.ColumnElement[bool]:
    if quality == "all":
        return sa.true()
    return finding == "doubtful" if quality == "doubtful" else finding.is_distinct_from("doubtful")


def list_clips(user_id: int, show: str, quality: str, page: int) -> list[ClipLine]:
    """Return one page of the user's clips. `done` also lists clips that are no longer in the queue."""
    table: Any = ra_queue
    if show == "done":
        table = audio_files
        source, finding, where = _labelled_of(user_id)
        order: list[Any] = [Assignment.submitted_at.desc(), Assignment.audio_id]
    else:
        source, finding = _queue_of(user_id), ra_queue.c.finding
        where = _TO_REVIEW if show == "todo" else Assignment.state == "skipped"
        order = [ra_queue.c.audio_id]
    names = ("audio_id", "batch_id", "original_filename", "duration_s", "processed_at")
    query = (
        sa.select(*(table.c[name] for name in names), finding.label("finding"))
        .select_from(source)
        .where(where, _of_quality(finding, quality))
        .order_by(*order)
        .limit(PAGE_SIZE)
        .offset((page - 1) * PAGE_SIZE)
    )
    return [ClipLine(**row) for row in db.session.execute(query).mappings()]


def count_clips(user_id: int, quality: str) -> dict[str, int]:
    """Return how many clips each of the user's lists holds."""
    queued = (
        sa.select(
            sa.func.count().filter(_TO_REVIEW).label("todo"),
            sa.func.count().filter(Assignment.state == "skipped").label("skipped"),
        )
        .select_from(_queue_of(user_id))
        .where(_of_quality(ra_queue.c.finding, quality))
    )
    source, finding, where = _labelled_of(user_id)
    done = sa.select(sa.func.count()).select_from(source).where(where, _of_quality(finding, quality))
    return {**db.session.execute(queued).mappings().one(), "done": db.session.scalar(done) or 0}


def next_clip(user_id: int, after: int = 0, quality: str = "all") -> int | None:
    """Return the user's next clip to label after the clip `after`, or the first one. Skipped clips do not count."""
    query = (
        sa.select(ra_queue.c.audio_id)
        .select_from(_queue_of(user_id))
        .where(_TO_REVIEW, ra_queue.c.audio_id != after, _of_quality(ra_queue.c.finding, quality))
        .order_by(ra_queue.c.audio_id <= after, ra_queue.c.audio_id)
        .limit(1)
    )
    return db.session.scalar(query)


def load_clip(user_id: int, audio_id: int) -> Clip | None:
    """Return a clip that this user may review, or None. The clip is in the queue, or was when the user opened it."""
    queued = sa.select(
        *(ra_queue.c[name] for name in ("audio_id", "batch_id", "original_filename", "duration_s")),
        *(ra_queue.c[name] for name in ("transcript", "language", "segments", "finding", "reasons")),
    ).where(ra_queue.c.audio_id == audio_id)
    row = db.session.execute(queued).mappings().first()
    if row is None:
        row = db.session.execute(_left_queue(user_id, audio_id)).mappings().first()
    if row is None:
        return None
    return Clip(**{**row, "segments": _segments(row), "reasons": tuple(row["reasons"])})


def _left_queue(user_id: int, audio_id: int) -> sa.Select[Any]:
    """Select a clip that this user has opened and that a newer verdict has removed from the queue."""
    return (
        sa.select(
            audio_files.c.audio_id,
            audio_files.c.batch_id,
            audio_files.c.original_filename,
            audio_files.c.duration_s,
            transcripts.c.text.label("transcript"),
            transcripts.c.language,
            transcripts.c.segments,
            transcripts.c.finding,
            transcripts.c.reasons,
        )
        .select_from(audio_files.join(transcripts, transcripts.c.audio_id == audio_files.c.audio_id))
        .where(audio_files.c.audio_id == audio_id, _has_assignment(user_id, audio_files.c.audio_id))
        .order_by(transcripts.c.created_at.desc(), transcripts.c.transcript_id.desc())
        .limit(1)
    )


def _has_assignment(user_id: int, audio_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    return sa.select(sa.literal(1)).where(Assignment.user_id == user_id, Assignment.audio_id == audio_id).exists()


def audio_key(user_id: int, audio_id: int) -> str | None:
    """Return the S3 key of a clip's audio, or None if this user may not review the clip."""
    queued = sa.select(sa.literal(1)).where(ra_queue.c.audio_id == audio_id).exists()
    query = sa.select(audio_files.c.s3_opus_path).where(
        audio_files.c.audio_id == audio_id,
        sa.or_(queued, _has_assignment(user_id, audio_files.c.audio_id)),
    )
    return db.session.scalar(query)


def verdicts(audio_id: int) -> list[Verdict]:
    """Return the verdict in force of each policy. Show it only to a reviewer whose own label of the clip is stored."""
    columns = verdicts_in_force.c
    names = ("policy", "policy_version", "model", "violates", "score", "threshold")
    query = sa.select(*(columns[name] for name in names)).where(columns.audio_id == audio_id).order_by(columns.policy)
    return [Verdict(**row) for row in db.session.execute(query).mappings()]


def _segments(row: Mapping[Any, Any]) -> tuple[Segment, ...]:
    """Return the segments of a transcript. Only start, end and text are read; invalid entries are left out."""
    found = []
    for item in row["segments"] if isinstance(row["segments"], list) else []:
        if not isinstance(item, Mapping):
            continue
        start, end, text = _time(item.get("start")), _time(item.get("end")), item.get("text")
        if start is not None and end is not None and isinstance(text, str) and text.strip():
            found.append(Segment(start=start, end=end, text=text.strip()))
    return tuple(found)


def _time(value: Any) -> float | None:
    """Return the value as seconds, or None if it is not a number of seconds."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value >= 0 else None
