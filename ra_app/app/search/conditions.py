"""The filters of the search as parts of one statement, and the part by which Postgres begins.

Every condition is a subquery about one clip, so Postgres cannot turn the statement around. It begins either with
clips in the order of their numbers, until a page is full, or with the smallest set that an index finds (clips with
these words, of this batch, with this metadata). `app/search/search.py` chooses.
"""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from app.models import db
from app.search.filters import Filters
from app.search.query import Words

# Of a clip `d`.
_VERDICTS = """FROM verdicts_in_force v
    WHERE v.audio_id = d.audio_id AND (CAST(:policy AS text) IS NULL OR v.policy = :policy)"""
_WAYS = {
    "flagged": f"(SELECT count(*) > 0 {_VERDICTS} AND v.violates)",
    "clean": f"(SELECT count(*) > 0 AND count(*) FILTER (WHERE v.violates) = 0 {_VERDICTS})",
    # Whoever has any verdict has one in force; an index alone tells.
    "unjudged": """(SELECT count(*) = 0 FROM classifications c
        WHERE c.audio_id = d.audio_id AND (CAST(:policy AS text) IS NULL OR c.policy = :policy))""",
}
_NOT_IN_HAND = """(SELECT count(*) = 0 FROM ra_assignments h WHERE h.audio_id = d.audio_id AND h.user_id = :viewer
    AND h.state IN ('open', 'skipped'))"""
_LABELLED = """SELECT DISTINCT s.audio_id FROM ra_assignments s WHERE s.state = 'submitted' AND (
    SELECT l.labels ? :label FROM ra_labels l WHERE l.assignment_id = s.assignment_id
    ORDER BY l.label_id DESC LIMIT 1)"""
_OF_CLIP = "(SELECT {} FROM audio_files a WHERE a.audio_id = d.audio_id)"
_OF_TEXT = """(SELECT {} FROM transcripts t WHERE t.audio_id = d.audio_id
    ORDER BY t.created_at DESC, t.transcript_id DESC LIMIT 1)"""

_LAST_BEFORE = sa.text("SELECT audio_id FROM audio_files WHERE processed_at < :until ORDER BY audio_id DESC LIMIT 1")
# OFFSET keeps Postgres from reading along the numbers instead of the days.
_BETWEEN = sa.text("""
    SELECT min(audio_id) AS first, max(audio_id) AS last FROM (
        SELECT audio_id FROM audio_files WHERE processed_at < :until AND processed_at >= :since OFFSET 0) processed
""")


class Conditions:
    """What must hold of a clip, where to begin, and the values that the parts name."""

    def __init__(self) -> None:
        self.sets: list[str] = []  # statements that find a superset by an index
        self.certain: list[str] = []  # the same, always small enough
        self.order = "SELECT audio_id FROM audio_files WHERE true"  # finds a superset along an index on the number
        self.of_range: list[str] = []  # of the number itself
        self.of_index: list[str] = []  # answered by an index alone
        self.of_clip: list[str] = []
        self.of_text: list[str] = []
        self.of_judgements: list[str] = []
        self.values: dict[str, Any] = {}

    def statement(self, begin: str) -> str:
        """Return the statement that finds the numbers of clips, the newest first; `:most` is how many."""
        parts = [*self.of_range, *self.of_index]
        if self.of_clip:
            parts.append(_OF_CLIP.format(" AND ".join(self.of_clip)))
        if self.of_text:
            parts.append(_OF_TEXT.format(" AND ".join(self.of_text)))
        where = " AND ".join([*parts, *self.of_judgements]) or "true"
        return f"SELECT d.audio_id FROM ({begin}) d WHERE {where} ORDER BY d.audio_id DESC LIMIT :most"  # noqa: S608

    def along(self, most: int | None = None) -> str:
        """Begin along the numbers, with the newest clips; only `most` of them, if that is given.

        OFFSET 0: Postgres must not read all of it and put it in order afterwards.
        """
        numbers = "".join(f" AND {part.replace('d.audio_id', 'audio_id')}" for part in self.of_range)
        return f"{self.order}{numbers} ORDER BY audio_id DESC LIMIT {most or 'ALL'} OFFSET 0"

    def smallest(self, limit: int | None = None) -> str | None:
        """Begin with the smallest set, as Postgres expects it; None if no set has at most `limit` clips."""
        if self.certain:
            return f"{self.certain[0]} OFFSET 0"
        sizes = {found: self._expected(found) for found in self.sets}
        smallest = min(sizes, key=lambda found: sizes[found], default=None)
        return None if smallest is None or sizes[smallest] > (limit or sizes[smallest]) else f"{smallest} OFFSET 0"

    def _expected(self, statement: str) -> int:
        plan = db.session.execute(sa.text(f"EXPLAIN (FORMAT JSON) {statement}"), self.values).scalar_one()
        return int(plan[0]["Plan"]["Plan Rows"])


def conditions(filters: Filters, words: Words | None, viewer: int, before: int | None) -> Conditions:
    found = Conditions()
    if before is not None:
        found.of_range.append("d.audio_id < :before")
        found.values["before"] = before
    _add_text(found, filters, words)
    _add_judgements(found, filters, viewer)
    _add_days(found, filters)
    _add_metadata(found, filters)
    _add_names(found, filters)
    return found


def _add_text(found: Conditions, filters: Filters, words: Words | None) -> None:
    if filters.language:
        found.of_text.append("t.language = :language")
        found.values["language"] = filters.language
        found.order = "SELECT DISTINCT audio_id FROM transcripts WHERE language = :language"
    if filters.finding:
        found.of_text.append("t.finding = :finding")
        found.values["finding"] = filters.finding
        if filters.finding == "doubtful":
            found.order = "SELECT DISTINCT audio_id FROM transcripts WHERE finding = 'doubtful'"
    if words is None:
        if filters.words:
            found.of_range.append("false")  # only signs were typed: nothing has them
        return
    if words.anywhere:
        found.values["anywhere"] = words.anywhere
        found.sets.append("SELECT DISTINCT audio_id FROM transcripts WHERE words_found @@ CAST(:anywhere AS tsquery)")
    cases = []
    for n, (languages, query) in enumerate(words.exact):
        found.values |= {f"languages{n}": list(languages), f"exact{n}": query}
        of_these = f"t.language = ANY (CAST(:languages{n} AS text[]))"
        cases.append(f"WHEN {of_these} THEN t.words_found @@ CAST(:exact{n} AS tsquery)")
    otherwise = "t.words_found @@ CAST(:otherwise AS tsquery)"
    found.of_text.append(f"CASE {' '.join(cases)} ELSE {otherwise} END" if cases else otherwise)
    found.values["otherwise"] = words.otherwise


def _add_judgements(found: Conditions, filters: Filters, viewer: int) -> None:
    if filters.verdict or filters.label:
        found.of_judgements.append(_NOT_IN_HAND)
        found.values["viewer"] = viewer
    if filters.verdict:
        found.of_judgements.append(_WAYS[filters.verdict])
        found.values["policy"] = filters.policy or None
    if filters.verdict == "flagged":
        flags = f"FROM classifications c WHERE c.violates {'AND c.policy = :policy' if filters.policy else ''}"
        found.order = f"SELECT DISTINCT audio_id {flags}"
        # In an index alone; only for those that it finds are the verdicts looked up.
        found.of_index.append(f"(SELECT count(*) > 0 {flags} AND c.audio_id = d.audio_id)")
    if filters.label:
        found.certain.append(_LABELLED)
        found.values["label"] = filters.label


def _add_days(found: Conditions, filters: Filters) -> None:
    """Add the days, and within which numbers their clips lie: else all that is newer would be read."""
    if filters.since:
        found.of_clip.append("a.processed_at >= :since")
        found.values["since"] = filters.since
    if filters.until:
        until = filters.until + timedelta(days=1)
        found.of_clip.append("a.processed_at < :until")
        found.values["until"] = until
        if filters.since:
            first, last = db.session.execute(_BETWEEN, {"since": filters.since, "until": until}).one()
        else:
            first, last = 0, db.session.scalar(_LAST_BEFORE, {"until": until})
        found.of_range.append("d.audio_id BETWEEN :first AND :last")
        found.values |= {"first": first or 0, "last": last or 0}


def _add_metadata(found: Conditions, filters: Filters) -> None:
    if filters.field:
        choices = [json.dumps({filters.field: value}) for value in _readings(filters.value)]
        found.values |= {f"metadata{n}": choice for n, choice in enumerate(choices)}
        places = [f"a.platform_metadata @> CAST(:metadata{n} AS jsonb)" for n in range(len(choices))]
        same = f"({' OR '.join(places)})"
        found.of_clip.append(same)
        found.sets.append(f"SELECT audio_id FROM audio_files a WHERE {same}")  # noqa: S608


def _add_names(found: Conditions, filters: Filters) -> None:
    if filters.batch:
        found.of_clip.append("a.batch_id = :batch")
        found.values["batch"] = filters.batch
        found.certain.append("SELECT audio_id FROM audio_files WHERE batch_id = :batch")
    name = filters.clip
    if not name:
        return
    if name.isascii() and name.isdigit() and int(name) < 2**63:
        same = "(a.audio_id = :number OR a.original_filename = :name)"
        found.values |= {"number": int(name), "name": name}
        found.certain.append(f"SELECT audio_id FROM audio_files a WHERE {same}")  # noqa: S608
    elif filters.batch:
        same = "strpos(lower(a.original_filename), lower(:name)) > 0"
        found.values["name"] = name
    else:
        same = "a.original_filename LIKE :name"
        escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        found.values["name"] = f"{escaped}%"
        found.sets.append(f"SELECT audio_id FROM audio_files a WHERE {same}")  # noqa: S608
    found.of_clip.append(same)


def _readings(value: str) -> list[Any]:
    """Return what the typed value may be in JSON: a text, and if it looks like one a number or a truth value."""
    try:
        other = json.loads(value)
    except (ValueError, RecursionError):
        return [value]
    number = isinstance(other, int) or (isinstance(other, float) and math.isfinite(other))
    return [value, other] if number else [value]
