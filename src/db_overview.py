"""What Postgres tells an operator: pace, ages, a batch's clips. Read-only, and quick on millions of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from db import Database
from db_values import time_or_none

PACE_MINUTES = 15  # of which the pace is taken
SURE = 0.25  # share of the minutes that may have been slower, or faster, than the estimate's two ends


@dataclass
class Activity:
    """The last minutes' work."""

    clips_per_minute: list[int] = field(default_factory=list)  # of each of the last PACE_MINUTES whole minutes
    audio_hours_per_hour: float = 0.0
    batches_open: int = 0  # neither complete nor cancelled

    def eta_s(self, clips: int) -> tuple[float, float] | None:
        """Soonest and latest end for so many clips; None while nothing has been done lately.

        At the pace of the quicker and of the slower minutes in which anything was done.
        """
        paces = sorted(count for count in self.clips_per_minute if count)
        if not paces:
            return None
        slow, quick = paces[int(SURE * (len(paces) - 1))], paces[int((1 - SURE) * (len(paces) - 1) + 0.5)]
        return 60 * clips / quick, 60 * clips / slow


@dataclass
class ClipState:
    audio_id: int
    clip: str
    status: str
    error: str | None
    duration_s: float | None
    recorded_at: datetime
    processed_at: datetime | None
    flagged: list[str]


@dataclass
class BatchState:
    batch_id: str
    s3_key: str | None
    original_filename: str | None
    transferred_at: datetime | None
    unpacked_at: datetime | None
    unpack_host: str | None
    completed_at: datetime | None
    cancelled_at: datetime | None
    total: int
    done: int
    failed: int
    skipped_members: list[Any]


class DatabaseOverview(Database):
    def activity(self) -> Activity:
        with self._transaction() as cursor:
            cursor.execute(
                """
                SELECT extract(epoch FROM date_trunc('minute', now()) - date_trunc('minute', processed_at))::int / 60,
                       count(*), coalesce(sum(duration_s), 0)
                FROM audio_files
                WHERE processed_at >= date_trunc('minute', now()) - make_interval(mins => %s)
                  AND processed_at < date_trunc('minute', now()) AND status IN ('done', 'no_speech')
                GROUP BY 1
                """,
                (PACE_MINUTES,),
            )
            rows = cursor.fetchall()
            cursor.execute(
                "SELECT count(*) FROM batches "
                "WHERE completed_at IS NULL AND cancelled_at IS NULL AND s3_key IS NOT NULL"
            )
            [open_] = cursor.fetchone() or (0,)
        counts = {int(minute): int(count) for minute, count, _ in rows}
        worked = max(counts, default=0)  # minutes since the first of these clips
        seconds = sum(float(seconds) for _, _, seconds in rows)
        return Activity(
            [counts.get(minute, 0) for minute in range(PACE_MINUTES, 0, -1)],
            seconds / 60 / worked if worked else 0.0,
            int(open_),
        )

    def age_of_batch(self, batch_id: str, transferred_at: str | None) -> float | None:
        """Seconds since the batch was unpacked, or, before that, since its transfer."""
        with self._transaction() as cursor:
            cursor.execute("SELECT coalesce(unpacked_at, transferred_at) FROM batches WHERE batch_id = %s", (batch_id,))
            found = cursor.fetchone()
        at = found[0] if found and found[0] else time_or_none(transferred_at)
        return None if at is None else max(0.0, (datetime.now(UTC) - at).total_seconds())

    def batches(self, *, limit: int, unfinished: bool) -> list[BatchState]:
        """The newest batches first."""
        with self._transaction() as cursor:
            cursor.execute(
                f"SELECT {_BATCH} WHERE %s OR (b.completed_at IS NULL AND b.cancelled_at IS NULL) "
                "ORDER BY b.created_at DESC, b.batch_id LIMIT %s",
                (not unfinished, limit),
            )
            return [BatchState(*row) for row in cursor.fetchall()]

    def batch(self, batch_id: str) -> BatchState | None:
        with self._transaction() as cursor:
            cursor.execute(f"SELECT {_BATCH} WHERE b.batch_id = %s", (batch_id,))
            row = cursor.fetchone()
            return BatchState(*row) if row else None

    def clips(self, batch_id: str) -> list[ClipState]:
        """Every clip of a batch, in the archive's order."""
        with self._transaction() as cursor:
            cursor.execute(
                """
                SELECT audio_id, original_filename, status, error, duration_s, created_at, processed_at,
                       ARRAY(SELECT DISTINCT policy FROM classifications c
                             WHERE c.audio_id = a.audio_id AND c.violates ORDER BY policy)
                FROM audio_files a WHERE batch_id = %s ORDER BY audio_id
                """,
                (batch_id,),
            )
            return [ClipState(*row) for row in cursor.fetchall()]

    def complete_archives(self) -> set[str]:
        """S3 keys of the archives whose batch is complete."""
        with self._transaction() as cursor:
            cursor.execute("SELECT s3_key FROM batches WHERE completed_at IS NOT NULL AND s3_key IS NOT NULL")
            return {key for (key,) in cursor.fetchall()}

    def reopen_batch(self, batch_id: str, *, everything: bool) -> None:
        """Let the batch count as not complete; with `everything`, let its clips count as not done."""
        with self._transaction() as cursor:
            cursor.execute(
                "UPDATE batches SET completed_at = NULL, cancelled_at = NULL WHERE batch_id = %s", (batch_id,)
            )
            if everything:
                cursor.execute("UPDATE audio_files SET status = 'pending' WHERE batch_id = %s", (batch_id,))

    def cancel_batch(self, batch_id: str) -> None:
        with self._transaction() as cursor:
            cursor.execute(
                "UPDATE batches SET cancelled_at = now() WHERE batch_id = %s AND completed_at IS NULL", (batch_id,)
            )


_BATCH = """
    b.batch_id, b.s3_key, b.original_filename, b.transferred_at, b.unpacked_at, b.unpack_host, b.completed_at,
    b.cancelled_at, b.total, n.done, n.failed, b.skipped_members
    FROM batches b CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE status IN ('done', 'no_speech')) AS done,
               count(*) FILTER (WHERE status = 'failed') AS failed
        FROM audio_files a WHERE a.batch_id = b.batch_id) n
"""
