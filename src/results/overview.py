"""What Postgres tells an operator: pace, ages, a batch's clips. Read-only, and quick on millions of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobs.payloads import UnpackJob
from results.database import Database
from results.rows import one_row
from results.values import time_or_none
from results.wanted import HAS_RESULTS, WantedResults, clips_with

PACE_MINUTES = 15  # the pace is that of so many whole minutes
# A batch is open while something of it is still to come: until its archive's clips all have an outcome, or it is
# cancelled. Clips that were injected one by one make a batch without an archive, open while one of them has no outcome.
# The one definition, for `status` and for `batch list --open`.
_OPEN = """(b.completed_at IS NULL AND b.cancelled_at IS NULL AND (b.s3_key IS NOT NULL OR EXISTS (
    SELECT 1 FROM audio_files a WHERE a.batch_id = b.batch_id AND a.status = 'pending')))"""
# Clips that are done, by their newest transcript. A partial index holds the transcripts with one of the two findings.
# The newest is looked up for each of them, which is quick; with NOT EXISTS, Postgres may read all transcripts for it.
_DOUBTS = """
    count(*) FILTER (WHERE t.finding = 'doubtful') AS doubtful,
    count(*) FILTER (WHERE t.not_judged IS NOT NULL) AS not_judged
    FROM audio_files a JOIN transcripts t USING (audio_id)
    WHERE (t.finding = 'doubtful' OR t.not_judged IS NOT NULL) AND a.status = 'done'
      AND t.created_at = (SELECT max(n.created_at) FROM transcripts n WHERE n.audio_id = t.audio_id)
"""
QUARTILE = 0.25  # the estimate's two ends leave out this share of the slowest and of the fastest minutes


@dataclass
class Activity:
    """The last minutes' work."""

    clips_per_minute: list[int] = field(default_factory=list)  # of each of the last PACE_MINUTES whole minutes
    clips_per_minute_by_host: dict[str, float] = field(default_factory=dict)  # means over the same time
    archives_per_minute: float = 0.0
    audio_hours_per_hour: float = 0.0
    batches_open: int = 0  # see _OPEN
    archives_known: int = 0  # that a worker has ever begun to unpack
    doubtful_today: int = 0  # clips of the last 24 hours whose transcript may have gaps or wrong words
    not_judged_today: int = 0  # clips of the last 24 hours in a language that is not judged

    def eta_s(self, clips: int) -> tuple[float, float] | None:
        """Soonest and latest end for so many clips; None while nothing has been done lately.

        At the pace of the quicker and of the slower minutes in which anything was done.
        """
        paces = sorted(count for count in self.clips_per_minute if count)
        if not paces:
            return None
        slow, quick = paces[int(QUARTILE * (len(paces) - 1))], paces[int((1 - QUARTILE) * (len(paces) - 1) + 0.5)]
        return 60 * clips / quick, 60 * clips / slow


@dataclass
class ClipState:
    audio_id: int
    clip: str
    status: str
    error: str | None
    duration_s: float | None
    recorded_at: datetime  # by unpack, or by the GPU worker when it was injected
    processed_at: datetime | None
    transcribe_s: float | None
    classify_s: float | None
    flagged: list[str]
    language: str | None
    finding: str | None  # speech, doubtful or no_speech; None while there is no transcript
    reasons: list[str]  # why it is doubtful or without speech
    not_judged: str | None  # "language": there is speech, and no verdict for this reason


@dataclass
class BatchState:
    batch_id: str
    s3_key: str | None
    original_filename: str | None  # of the archive; as in the table and in `batch list --json`
    transferred_at: datetime | None
    unpack_began_at: datetime | None
    unpacked_at: datetime | None
    unpack_host: str | None
    completed_at: datetime | None
    cancelled_at: datetime | None
    total: int
    done: int
    failed: int
    doubtful: int
    not_judged: int
    skipped_members: list[Any]
    metadata_matched: int | None
    metadata_problems: list[Any]

    @property
    def state(self) -> str:
        if self.completed_at:
            return "complete"
        if self.cancelled_at:
            return "cancelled"
        if self.s3_key is None:
            return "injected"  # clip by clip: it has no archive, and no end
        return "under way" if self.unpacked_at else "not unpacked"


class DatabaseOverview(Database):
    def activity(self) -> Activity:
        with self._transaction() as cursor:
            cursor.execute(_PACE, {"minutes": PACE_MINUTES})
            rows = [(int(ago), host, int(count), float(seconds)) for ago, host, count, seconds in cursor.fetchall()]
            cursor.execute(_ARCHIVES, {"minutes": PACE_MINUTES})
            unpacked, open_, archives = one_row(cursor)
            cursor.execute(_TODAY)
            doubtful, not_judged = one_row(cursor)
        counts = dict.fromkeys(range(PACE_MINUTES, 0, -1), 0)
        by_host: dict[str, float] = {}
        for ago, host, count, _ in rows:
            counts[ago] += count
            if host is not None:
                by_host[host] = by_host.get(host, 0.0) + count / PACE_MINUTES
        worked = max((ago for ago, *_ in rows), default=0)  # minutes since the first of these clips
        seconds = sum(row[3] for row in rows)
        return Activity(
            clips_per_minute=list(counts.values()),
            clips_per_minute_by_host=by_host,
            archives_per_minute=unpacked / PACE_MINUTES,
            audio_hours_per_hour=seconds / 60 / worked if worked else 0.0,
            batches_open=open_,
            archives_known=archives,
            doubtful_today=doubtful,
            not_judged_today=not_judged,
        )

    def doubts(self, batch_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Batch -> how many of its clips are doubtful, and how many are not judged."""
        with self._transaction() as cursor:
            cursor.execute(
                f"SELECT a.batch_id, {_DOUBTS} AND a.batch_id = ANY(%s) GROUP BY a.batch_id",
                (list(batch_ids),),
            )
            return {batch_id: (doubtful, not_judged) for batch_id, doubtful, not_judged in cursor.fetchall()}

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
                f"WITH b AS (SELECT * FROM batches b WHERE %s OR {_OPEN} {_NEWEST_FIRST} LIMIT %s) "  # noqa: S608
                f"{_BATCH} {_NEWEST_FIRST}",
                (not unfinished, limit),
            )
            return [BatchState(*row) for row in cursor.fetchall()]

    def batch(self, batch_id: str) -> BatchState | None:
        with self._transaction() as cursor:
            cursor.execute(f"WITH b AS (SELECT * FROM batches WHERE batch_id = %s) {_BATCH}", (batch_id,))  # noqa: S608
            row = cursor.fetchone()
            return BatchState(*row) if row else None

    def clips_to_do(self, batch_id: str, wanted: WantedResults) -> int:
        """How many of the batch's clips do not have all wanted results; a requeue of the batch does them."""
        with self._transaction() as cursor:
            cursor.execute("SELECT total FROM batches WHERE batch_id = %s", (batch_id,))
            return max(0, int(one_row(cursor)[0]) - len(clips_with(cursor, batch_id, wanted)))

    def clips(self, batch_id: str) -> list[ClipState]:
        """Every clip of a batch, in the archive's order."""
        with self._transaction() as cursor:
            cursor.execute(
                """
                SELECT a.audio_id, original_filename, status, error, duration_s, a.created_at, processed_at,
                       transcribe_s, classify_s,
                       ARRAY(SELECT policy FROM verdicts_in_force v
                             WHERE v.audio_id = a.audio_id AND v.violates ORDER BY policy),
                       t.language, t.finding, coalesce(t.reasons, '{}'), t.not_judged
                FROM audio_files a LEFT JOIN LATERAL (
                    SELECT * FROM transcripts t WHERE t.audio_id = a.audio_id
                    ORDER BY created_at DESC, transcript_id DESC LIMIT 1) t ON true
                WHERE batch_id = %s ORDER BY audio_id
                """,
                (batch_id,),
            )
            return [ClipState(*row) for row in cursor.fetchall()]

    def complete_archives(self, among: Sequence[str] | None = None) -> set[str]:
        """S3 keys of the archives whose batch is complete: all of them, or those `among` the given."""
        with self._transaction() as cursor:
            cursor.execute(
                "SELECT s3_key FROM batches WHERE completed_at IS NOT NULL AND s3_key IS NOT NULL "
                "AND (%s OR s3_key = ANY(%s))",
                (among is None, list(among or ())),
            )
            return {key for (key,) in cursor.fetchall()}

    def note_batch(self, job: UnpackJob) -> None:
        """Record a batch that no worker has begun to unpack."""
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO batches (batch_id, s3_key, original_filename, transferred_at) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT DO NOTHING",
                (job.batch_id, job.s3_key, job.archive_name, time_or_none(job.transferred_at)),
            )

    @contextmanager
    def reopened_batch(self, batch_id: str, *, everything: bool) -> Iterator[None]:
        """Mark the batch as not complete and not cancelled; with `everything`, mark its clips as not done.

        The batch's row is locked until the block has ended, so that a worker completes the batch before or after what
        the block does in Redis (see `finish_batch`).
        """
        with self._transaction() as cursor:
            cursor.execute(
                "UPDATE batches SET completed_at = NULL, cancelled_at = NULL WHERE batch_id = %s", (batch_id,)
            )
            if everything:
                cursor.execute(
                    "UPDATE audio_files SET status = 'pending' WHERE batch_id = %s AND erased_at IS NULL", (batch_id,)
                )
            yield

    @contextmanager
    def cancelled_batch(self, batch_id: str) -> Iterator[bool]:
        """Mark the batch as cancelled; yields False when it is complete. Locks its row as `reopened_batch` does."""
        with self._transaction() as cursor:
            cursor.execute(
                "UPDATE batches SET cancelled_at = now() WHERE batch_id = %s AND completed_at IS NULL", (batch_id,)
            )
            yield cursor.rowcount == 1


_PACE = f"""
    SELECT extract(epoch FROM date_trunc('minute', now()) - date_trunc('minute', a.processed_at))::int / 60 AS ago,
           b.unpack_host, count(*), coalesce(sum(a.duration_s), 0)
    FROM audio_files a JOIN batches b USING (batch_id)
    WHERE a.processed_at >= date_trunc('minute', now()) - make_interval(mins => %(minutes)s)
      AND a.processed_at < date_trunc('minute', now()) AND a.{HAS_RESULTS}
    GROUP BY 1, 2
"""  # noqa: S608 -- a constant
_ARCHIVES = f"""
    SELECT count(*) FILTER (WHERE b.unpacked_at >= now() - make_interval(mins => %(minutes)s)),
           count(*) FILTER (WHERE {_OPEN}), count(b.s3_key)
    FROM batches b
"""  # noqa: S608 -- a constant
_TODAY = f"SELECT {_DOUBTS} AND t.created_at >= now() - interval '24 h'"
_NEWEST_FIRST = "ORDER BY b.created_at DESC, b.batch_id"
# Of the batches b, which are chosen first: their clips are counted, and those of no other batch.
_BATCH = f"""
    SELECT b.batch_id, b.s3_key, b.original_filename, b.transferred_at, b.unpack_began_at,
    b.unpacked_at, b.unpack_host, b.completed_at,
    b.cancelled_at, b.total, n.done, n.failed, d.doubtful, d.not_judged, b.skipped_members,
    b.metadata_matched, b.metadata_problems
    FROM b CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE {HAS_RESULTS}) AS done,
               count(*) FILTER (WHERE status = 'failed') AS failed
        FROM audio_files a WHERE a.batch_id = b.batch_id) n
    CROSS JOIN LATERAL (SELECT {_DOUBTS} AND a.batch_id = b.batch_id) d
"""  # noqa: S608 -- a constant
