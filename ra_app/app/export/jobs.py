"""The queue of exports in Postgres: who works on what, how far it is, and how it ended. Every function commits.

An export that is `running` and has given no sign of life for a minute belongs to whoever takes it next. `mark` tells
two workers of the same export apart: who has lost it can write nothing any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.models import db

SILENT = timedelta(seconds=60)
ATTEMPTS = 3  # an export that ends its process so often is given up


class LostError(Exception):
    """Another worker has taken this export, or a lead has removed it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    export_id: int
    name: str
    studies: tuple[int, ...]
    formats: tuple[str, ...]
    bounds: Mapping[str, Any]  # what a lead chose; once the work has begun, also what the snapshot holds
    files: Sequence[Mapping[str, Any]]  # of the build before
    mark: datetime

    @property
    def folder(self) -> str:
        return folder_of(self.export_id, self.name)


def folder_of(export_id: int, name: str) -> str:
    return f"{export_id}-{name}"


def claim() -> Job | None:
    """Take the oldest export that waits, or whose worker is silent."""
    query = sa.text(
        "UPDATE ra_exports SET state = 'running', began_at = clock_timestamp(), seen_at = clock_timestamp(), "
        "rows_done = 0, rows_total = NULL, error = NULL, "
        "bounds = bounds || jsonb_build_object('attempts', coalesce((bounds->>'attempts')::int, 0) + 1) "
        "WHERE export_id = (SELECT export_id FROM ra_exports WHERE state = 'waiting' "
        "OR (state = 'running' AND seen_at < clock_timestamp() - CAST(:silent AS interval)) "
        "ORDER BY export_id LIMIT 1 FOR UPDATE SKIP LOCKED) "
        "RETURNING export_id, name, study_ids, formats, bounds, files, began_at"
    )
    with db.engine.begin() as connection:
        row = connection.execute(query, {"silent": SILENT}).one_or_none()
    if row is None:
        return None
    return Job(export_id=row[0], name=row[1], studies=tuple(row[2]), formats=tuple(row[3]), bounds=row[4],
               files=row[5], mark=row[6])  # fmt: skip


def keep(job: Job, **bounds: Any) -> None:
    """Add to the bounds."""
    _update(job, "bounds = bounds || CAST(:bounds AS jsonb), seen_at = clock_timestamp()", bounds=json.dumps(bounds))


def progress(job: Job, done: int, total: int) -> None:
    """Say how far it is: also the sign of life."""
    _update(job, "rows_done = :done, rows_total = :total, seen_at = clock_timestamp()", done=done, total=total)


def finish(job: Job, files: Sequence[Mapping[str, Any]], **bounds: Any) -> None:
    _update(
        job,
        "state = 'done', rows_done = rows_total, files = CAST(:files AS jsonb), finished_at = clock_timestamp(), "
        "removed_at = NULL, bounds = (bounds - 'attempts') || CAST(:bounds AS jsonb)",
        files=json.dumps(list(files)),
        bounds=json.dumps(bounds),
    )


def end(job: Job, state: str, *, error: str | None = None, **bounds: Any) -> None:
    """End without new files."""
    _update(
        job,
        "state = :state, error = :error, finished_at = clock_timestamp(), "
        "bounds = (bounds - 'attempts') || CAST(:bounds AS jsonb)",
        state=state,
        error=error,
        bounds=json.dumps(bounds),
    )


def hand_back(job: Job) -> None:
    """The worker stops: the export waits for the next one, and this attempt does not count."""
    _update(job, "state = 'waiting', rows_done = 0, bounds = bounds - 'attempts'")


def states() -> dict[int, str]:
    with db.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT export_id, state FROM ra_exports"))
        return {row[0]: row[1] for row in rows}


def _update(job: Job, changes: str, **values: Any) -> None:
    query = sa.text(f"UPDATE ra_exports SET {changes} WHERE export_id = :id AND state = 'running' AND began_at = :mark")  # noqa: S608 - texts of this module
    with db.engine.begin() as connection:
        found = connection.execute(query, {**values, "id": job.export_id, "mark": job.mark}).rowcount
    if not found:
        raise LostError(f"The export {job.name} is not this worker's any more.")
