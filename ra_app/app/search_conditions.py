"""The filters of the search as conditions on a clip `a` and its newest transcript `t`, with the values of them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from app.models import db
from app.search_filters import Filters

# A subquery with a truth value: to Postgres' planner it holds for half of the rows, whatever it asks.
_VERDICTS = """FROM verdicts_in_force v
    WHERE v.audio_id = a.audio_id AND (CAST(:policy AS text) IS NULL OR v.policy = :policy)"""
_FLAGGED = f"""EXISTS (SELECT FROM classifications c WHERE c.audio_id = a.audio_id AND c.violates {{of_policy}})
    AND (SELECT count(*) > 0 {_VERDICTS} AND v.violates)"""
_CLEAN = f"(SELECT count(*) > 0 AND count(*) FILTER (WHERE v.violates) = 0 {_VERDICTS})"
_UNJUDGED = f"(SELECT count(*) = 0 {_VERDICTS})"
_LABELLED = """a.audio_id IN (SELECT s.audio_id FROM ra_assignments s WHERE s.state = 'submitted' AND (
    SELECT l.labels ? :label FROM ra_labels l WHERE l.assignment_id = s.assignment_id
    ORDER BY l.label_id DESC LIMIT 1))"""
_NOT_IN_HAND = """(SELECT count(*) = 0 FROM ra_assignments h WHERE h.audio_id = a.audio_id AND h.user_id = :viewer
    AND h.state IN ('open', 'skipped'))"""
_DAYS = sa.text("""
    SELECT min(audio_id) AS first, max(audio_id) AS last FROM (
        SELECT audio_id FROM audio_files WHERE processed_at < :until
        AND (CAST(:since AS timestamptz) IS NULL OR processed_at >= :since) OFFSET 0) processed
""")


class Conditions:
    """What must hold, and the values that the conditions name."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.values: dict[str, Any] = {}

    def add(self, condition: str, **named: Any) -> None:
        self.all.append(condition)
        self.values.update(named)


def conditions(filters: Filters, viewer: int) -> Conditions:
    found = Conditions()
    _add_judgements(found, filters, viewer)
    if filters.language:
        found.add("t.language = :language", language=filters.language)
    if filters.finding:
        found.add("t.finding = :finding", finding=filters.finding)
    if filters.since or filters.until:
        _add_days(found, filters)
    if filters.field:
        choices = [json.dumps({filters.field: value}) for value in _readings(filters.value)]
        places = [f"a.platform_metadata @> CAST(:metadata{n} AS jsonb)" for n in range(len(choices))]
        found.add(f"({' OR '.join(places)})", **{f"metadata{n}": choice for n, choice in enumerate(choices)})
    if filters.batch:
        found.add("a.batch_id = :batch", batch=filters.batch)
    if filters.clip:
        _add_clip(found, filters)
    return found


def _add_judgements(found: Conditions, filters: Filters, viewer: int) -> None:
    if filters.verdict:
        of_policy = "AND c.policy = :policy" if filters.policy else ""
        ways = {"flagged": _FLAGGED.format(of_policy=of_policy), "clean": _CLEAN, "unjudged": _UNJUDGED}
        found.add(ways[filters.verdict], policy=filters.policy or None)
    if filters.label:
        found.add(_LABELLED, label=filters.label)
    if filters.verdict or filters.label:
        found.add(_NOT_IN_HAND, viewer=viewer)


def _add_days(found: Conditions, filters: Filters) -> None:
    """Add the days, and within which numbers their clips lie: else the search would read all that is newer."""
    if filters.until:
        after = filters.until + timedelta(days=1)
        bounds = db.session.execute(_DAYS, {"since": filters.since, "until": after}).one()
        found.add("a.audio_id BETWEEN :first AND :last", first=bounds.first or 0, last=bounds.last or 0)
        found.add("a.processed_at < :until", until=after)
    if filters.since:
        found.add("a.processed_at >= :since", since=filters.since)


def _add_clip(found: Conditions, filters: Filters) -> None:
    name = filters.clip
    if name.isascii() and name.isdigit() and int(name) < 2**63:
        found.add("(a.audio_id = :number OR a.original_filename = :name)", number=int(name), name=name)
    elif filters.batch:
        found.add("strpos(lower(a.original_filename), lower(:name)) > 0", name=name)
    else:
        escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        found.add("a.original_filename LIKE :name", name=f"{escaped}%")


def _readings(value: str) -> list[Any]:
    """Return what the typed value may be in JSON: a text, and if it looks like one a number or a truth value."""
    try:
        other = json.loads(value)
    except (ValueError, RecursionError):
        return [value]
    return [value, other] if isinstance(other, int | float) and len(value) < 300 else [value]
