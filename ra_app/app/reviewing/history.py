"""What somebody sees of their own work: the last days, what they heard, and their labels with a search. No verdicts.

Every query goes along an index of the person's own rows. A search reads the person's own labels only, newest first, and
stops when a page is full; so it finds parts of words, in every language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from app.models import Assignment, Exposure, LabelRow, db

DAYS = 14
PAGE_SIZE = 25
QUERY_LENGTH = 100  # characters
_OF_LABEL = ("labels", "answers", "codebook_id", "codebook_version", "confidence", "note")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_DAYS = sa.text(f"""
    WITH days AS (
        SELECT (now() AT TIME ZONE 'UTC')::date - n AS day FROM generate_series(0, {DAYS - 1}) AS n
    ), spans AS (
        SELECT day, day::timestamp AT TIME ZONE 'UTC' AS since, (day + 1)::timestamp AT TIME ZONE 'UTC' AS until
        FROM days
    )
    SELECT day,
        (SELECT count(*) FROM ra_assignments a WHERE a.user_id = :user_id AND a.state = 'submitted'
            AND a.submitted_at >= since AND a.submitted_at < until) AS labelled,
        (SELECT coalesce(sum(e.heard_ms), 0)::bigint FROM ra_exposures e WHERE e.user_id = :user_id
            AND e.at >= since AND e.at < until) AS heard_ms
    FROM spans ORDER BY day DESC
""")  # noqa: S608 - a number of this module


@dataclass(frozen=True, kw_only=True)
class Day:
    day: date
    labelled: int  # clips that got their first label of this person on this day
    heard_ms: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A clip that this person has labelled, with the label that counts."""

    audio_id: int
    assignment_id: int
    submitted_at: datetime | None
    labels: list[str]
    answers: dict[str, list[str]]
    codebook_id: str
    codebook_version: str
    confidence: int | None
    note: str


def days(user_id: int) -> list[Day]:
    """Return the last 14 days in UTC, today first."""
    return [Day(**row) for row in db.session.execute(_DAYS, {"user_id": user_id}).mappings()]


def heard_ms(user_id: int) -> int:
    """Return what this person has heard in all, in milliseconds."""
    total = sa.select(sa.cast(sa.func.sum(Exposure.heard_ms), sa.BigInteger)).where(Exposure.user_id == user_id)
    return db.session.scalar(total) or 0


def clean(query: str) -> str:
    return _CONTROL.sub(" ", query).strip()[:QUERY_LENGTH]


def entries(user_id: int, query: str, codes: Iterable[str], page: int) -> tuple[list[Entry], bool]:
    """Return a page of the person's labels, the newest first, and whether there are more.

    Found is what has `query` in its note or in a code, or has one of `codes`. An empty query finds everything.
    """
    newest = (
        sa.select(*(getattr(LabelRow, name) for name in _OF_LABEL))
        .where(LabelRow.assignment_id == Assignment.assignment_id)
        .order_by(LabelRow.label_id.desc())
        .limit(1)
        .lateral("newest")
    )
    found = (
        sa.select(Assignment.audio_id, Assignment.assignment_id, Assignment.submitted_at, *newest.c)
        .join(newest, sa.true())
        .where(Assignment.user_id == user_id, Assignment.state == "submitted")
        .order_by(Assignment.submitted_at.desc(), Assignment.assignment_id.desc())
        .limit(PAGE_SIZE + 1)
        .offset((page - 1) * PAGE_SIZE)
    )
    if query:
        code = sa.func.jsonb_array_elements_text(newest.c.labels).column_valued("code")
        in_code = sa.exists(sa.select(1).where(sa.cast(code, sa.Text).icontains(query, autoescape=True)))
        named = newest.c.labels.op("?|")(sa.cast(list(codes), pg.ARRAY(sa.Text)))
        found = found.where(newest.c.note.icontains(query, autoescape=True) | in_code | named)
    rows = [Entry(**row) for row in db.session.execute(found).mappings()]
    return rows[:PAGE_SIZE], len(rows) > PAGE_SIZE
