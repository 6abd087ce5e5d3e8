"""The search over all clips: by words of what was said, and by what else is known of a clip. The newest clips first.

A page is found by the clip's number (`before`), never by counting pages. The statement is made of the parts below;
what was typed is only ever a value of it. Verdicts and labels are filters and are never shown in the list. Clips that
the person holds and has not labelled are left out where such a filter is used, so that nobody learns a verdict from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2.errors
import sqlalchemy as sa
import sqlalchemy.exc

from app import search_query, search_said
from app.models import db
from app.search_conditions import Conditions, conditions
from app.search_filters import Filters
from app.search_query import Words
from app.search_said import Part

PAGE_SIZE = 25
MOST = 10_000  # clips that are handed to a new study
TIMEOUT_MS = 5000
SAMPLED = 200  # newest clips in which the names of metadata fields are looked up

_NEWEST = """(SELECT count(*) = 0 FROM transcripts n WHERE n.audio_id = t.audio_id
    AND (n.created_at, n.transcript_id) > (t.created_at, t.transcript_id))"""
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
        statement, values = _statement(filters, words, viewer, before)
        rows = db.session.execute(statement, {**values, "most": PAGE_SIZE + 1}).mappings().all()
        said = search_said.pieces([row["transcript_id"] for row in rows[:PAGE_SIZE]], words.anywhere if words else "")
        hits = [Hit(**row, **said.get(row["transcript_id"], {})) for row in rows[:PAGE_SIZE]]
    return hits, len(rows) > PAGE_SIZE


def numbers(filters: Filters, viewer: int) -> list[int]:
    """Return the numbers of the clips found, the newest first; at most `MOST`. Raises as `page` does."""
    with _Limited():
        statement, values = _statement(filters, _words(filters), viewer, None, "a.audio_id")
        return list(db.session.scalars(statement, {**values, "most": MOST}))


class _Limited:
    """Gives a search a time limit of its own."""

    def __enter__(self) -> None:
        db.session.execute(sa.text(f"SET LOCAL statement_timeout = {TIMEOUT_MS}"))

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        db.session.rollback()
        if isinstance(error, sqlalchemy.exc.OperationalError) and isinstance(error.orig, psycopg2.errors.QueryCanceled):
            raise TooLongError from error


def _words(filters: Filters) -> Words | None:
    among = [filters.language] if filters.language else search_query.languages()
    return search_query.words(filters.words, among)


_COLUMNS = """a.audio_id, a.batch_id, a.original_filename, a.processed_at, a.duration_s, a.status, a.erased_at,
    t.transcript_id, t.language, t.finding, t.not_judged"""


def _statement(
    filters: Filters, words: Words | None, viewer: int, before: int | None, columns: str = _COLUMNS
) -> tuple[sa.TextClause, dict[str, Any]]:
    found = conditions(filters, viewer)
    if words is not None:
        _add_words(found, words)
    elif filters.words:
        found.add("false")  # only signs were typed: nothing has them
    if before is not None:
        found.add("a.audio_id < :before", before=before)
    of_text = words is not None or filters.language or filters.finding
    join = "JOIN" if of_text else "LEFT JOIN"
    where = " AND ".join(found.all) or "true"
    return sa.text(f"""
        SELECT {columns} FROM audio_files a {join} transcripts t ON t.audio_id = a.audio_id AND {_NEWEST}
        WHERE {where} ORDER BY a.audio_id DESC LIMIT :most
    """), found.values  # noqa: S608 - parts of this module; what was typed is bound


def _add_words(found: Conditions, words: Words) -> None:
    if words.anywhere:
        found.add("t.words_found @@ CAST(:anywhere AS tsquery)", anywhere=words.anywhere)
    cases = []
    for n, (languages, query) in enumerate(words.exact):
        found.values |= {f"languages{n}": list(languages), f"exact{n}": query}
        of_these = f"t.language = ANY (CAST(:languages{n} AS text[]))"
        cases.append(f"WHEN {of_these} THEN t.words_found @@ CAST(:exact{n} AS tsquery)")
    otherwise = "t.words_found @@ CAST(:otherwise AS tsquery)"
    if cases or words.otherwise != words.anywhere:
        exact = f"CASE {' '.join(cases)} ELSE {otherwise} END" if cases else otherwise
        found.add(exact, otherwise=words.otherwise)
