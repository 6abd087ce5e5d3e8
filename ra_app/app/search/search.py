"""The search over all clips: by words of what was said, and by what else is known of a clip. The newest clips first.

A page is found by the clip's number (`before`), never by counting pages. The statement is made of the parts below;
what was typed is only ever a value of it. Verdicts and labels are filters and are never shown in the list. Clips that
the person holds and has not labelled are left out where such a filter is used, so that nobody learns a verdict from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg2.errors
import sqlalchemy as sa
import sqlalchemy.exc

from app.models import db
from app.search import query
from app.search import said as search_said
from app.search.conditions import conditions
from app.search.filters import Filters
from app.search.query import Words
from app.search.said import Part

PAGE_SIZE = 25
LOOK = 1500  # clips; about 20 ms
FEW = 7  # matches among these: then an index is quicker, with a million clips
MANY = 50_000  # clips of a set: above, 10,000 of them are found sooner along the numbers
MOST = 10_000  # clips that are handed to a new study
TIMEOUT_MS = 5000
SAMPLED = 200  # newest clips in which the names of metadata fields are looked up

_FIELDS = sa.text("""
    SELECT DISTINCT jsonb_object_keys(platform_metadata) AS name FROM (
        SELECT platform_metadata FROM (
            SELECT platform_metadata FROM audio_files ORDER BY audio_id DESC LIMIT :sampled) newest
        WHERE jsonb_typeof(platform_metadata) = 'object') known
    ORDER BY name LIMIT 200
""")
# Along the index on (policy, audio_id), from one policy to the next.
_POLICIES = sa.text("""
    WITH RECURSIVE known (policy) AS (
        (SELECT policy FROM classifications WHERE violates ORDER BY policy LIMIT 1)
        UNION ALL
        SELECT (SELECT c.policy FROM classifications c WHERE c.violates AND c.policy > known.policy
                ORDER BY c.policy LIMIT 1)
        FROM known WHERE known.policy IS NOT NULL
    )
    SELECT policy FROM known WHERE policy IS NOT NULL UNION SELECT policy FROM policies ORDER BY 1 LIMIT 200
""")


class TooLongError(Exception):
    """The search was stopped because it took longer than `TIMEOUT_MS`."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    audio_id: int
    batch_id: str
    original_filename: str
    processed_at: datetime | None
    duration_s: float | None
    status: str
    erased_at: datetime | None
    transcript_id: int | None
    language: str | None
    finding: str | None
    not_judged: str | None
    said: Sequence[Part] = ()
    translated: bool = False  # `said` is of the translation


def policies() -> list[str]:
    return list(db.session.scalars(_POLICIES))


def fields() -> list[str]:
    """Return the names of metadata fields of the newest clips."""
    return list(db.session.scalars(_FIELDS, {"sampled": SAMPLED}))


def page(filters: Filters, viewer: int, before: int | None) -> tuple[list[Hit], bool]:
    """Return a page of the clips found, and whether there are more.

    Raises
    ------
    TooLongError
        Postgres did not answer in time.
    """
    with _Limited():
        words = _words(filters)
        found = _found(filters, viewer, before, PAGE_SIZE + 1, words)
        rows = db.session.execute(_SHOWN, {"numbers": found[:PAGE_SIZE]}).mappings().all()
        said = search_said.pieces([row["transcript_id"] for row in rows], words.anywhere if words else "")
        hits = [Hit(**row, **said.get(row["transcript_id"], {})) for row in rows]
    return hits, len(found) > PAGE_SIZE


def numbers(filters: Filters, viewer: int) -> list[int]:
    """Return the numbers of the clips found, the newest first; at most `MOST`. Raises as `page` does."""
    with _Limited():
        return _found(filters, viewer, None, MOST, _words(filters))


class _Limited:
    """Gives a search a time limit of its own."""

    def __enter__(self) -> None:
        db.session.execute(sa.text(f"SET LOCAL statement_timeout = {TIMEOUT_MS}"))
        db.session.execute(sa.text("SET LOCAL jit = off"))  # to compile takes longer than most searches

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        db.session.rollback()
        if isinstance(error, sqlalchemy.exc.OperationalError) and isinstance(error.orig, psycopg2.errors.QueryCanceled):
            raise TooLongError from error


def _words(filters: Filters) -> Words | None:
    among = [filters.language] if filters.language else query.languages()
    return query.words(filters.words, among)


def _found(filters: Filters, viewer: int, before: int | None, most: int, words: Words | None) -> list[int]:
    """Return the numbers of clips, the newest first.

    A page begins with a look at the newest `LOOK` clips. If it is full then, or it will be soon, the search goes along
    the numbers; if few of them match, an index finds the others. Postgres' own guess of how many match is too coarse:
    it knows the thousand commonest words only.
    """
    found = conditions(filters, words, viewer, before)
    values = {**found.values, "most": most}

    def run(begin: str) -> list[int]:
        return list(db.session.scalars(sa.text(found.statement(begin)), values))

    if found.certain or not found.sets:
        return run(found.smallest() or found.along())
    if most > PAGE_SIZE + 1:
        return run(found.smallest(MANY) or found.along())
    newest = run(found.along(LOOK))
    if len(newest) == most:
        return newest
    begin = found.smallest() if len(newest) <= FEW else None
    return run(begin or found.along())


# The newest transcript of each clip that was found.
_SHOWN = sa.text("""
    SELECT a.audio_id, a.batch_id, a.original_filename, a.processed_at, a.duration_s, a.status, a.erased_at,
        t.transcript_id, t.language, t.finding, t.not_judged
    FROM unnest(CAST(:numbers AS bigint[])) d (audio_id) JOIN audio_files a USING (audio_id) LEFT JOIN LATERAL (
        SELECT transcript_id, language, finding, not_judged FROM transcripts WHERE audio_id = d.audio_id
        ORDER BY created_at DESC, transcript_id DESC LIMIT 1) t ON true
    ORDER BY d.audio_id DESC
""")
