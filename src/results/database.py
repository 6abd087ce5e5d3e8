"""Postgres: what the pipeline reads and writes, as functions named after what they record.

Every write can be repeated: a clip that is delivered twice finds its row and overwrites it with the same results. One
connection (`session.py`); each method is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2.extensions
import psycopg2.extras

from errors import PermanentError, RetryableError
from jobs.payloads import TranscribeJob, UnpackJob
from moderation.policies import Policy
from moderation.scorer import Score
from results import known_policies, known_scores
from results.judged_text import NotJudged
from results.rows import (
    COUNTS,
    Verdict,
    insert_clip,
    recount_if_complete,
    save_levels,
    save_transcript,
    save_verdict,
)
from results.session import Session
from results.values import json_text, storable, time_or_none
from results.wanted import HAS_RESULTS, WantedResults, clip_has, clips_with

if TYPE_CHECKING:  # with numpy, which the command line can do without
    from media.levels import Levels
    from transcription import Transcript


@dataclass(frozen=True, kw_only=True)
class NewClip:
    """A clip as unpack found it; `error` is set when it could not be read."""

    original_filename: str  # of the clip
    error: str | None = None
    duration_s: float | None = None
    source_format: str | None = None
    source_bytes: int | None = None
    source_sha256: str | None = None
    platform_metadata: Mapping[str, Any] | None = None
    audio_notes: Sequence[str] = ()
    levels: Levels | None = None


@dataclass(frozen=True)
class ClipRow:
    audio_id: int
    status: str  # pending, done, no_speech or failed
    s3_opus_path: str | None
    has_levels: bool


@dataclass(frozen=True)
class FinishedBatch:
    total: int
    processed: int
    failed: int
    seconds: float | None  # since the archive was unpacked


class Database(Session):
    def done_clips(self, batch_id: str, wanted: WantedResults) -> set[str]:
        """Names of the batch's clips that have all wanted results from earlier runs."""
        with self._transaction() as cursor:
            return clips_with(cursor, batch_id, wanted)

    def begin_unpack(self, job: UnpackJob) -> int:
        """Record that a run of unpack begins. Returns its number, which `record_unpacked` needs.

        Only the newest run may record: a run that was paused, taken for dead and replaced must not reset the batch.
        Raises PermanentError when the batch was cancelled: only an operator may requeue it, not a worker that claimed
        its job just before.
        """
        with self._transaction() as cursor:
            cursor.execute(
                """
                INSERT INTO batches (batch_id, s3_key, original_filename, transferred_at, unpack_run, unpack_began_at)
                VALUES (%s, %s, %s, %s, 1, now())
                ON CONFLICT (batch_id) DO UPDATE
                SET unpack_run = batches.unpack_run + 1, unpack_began_at = now()
                WHERE batches.cancelled_at IS NULL
                RETURNING unpack_run
                """,
                (job.batch_id, job.s3_key, job.archive_name, time_or_none(job.transferred_at)),
            )
            found = cursor.fetchone()
        if found is None:
            raise PermanentError(
                f"batch {job.batch_id} was cancelled; audio-pipeline batch requeue {job.batch_id} resumes it"
            )
        return int(found[0])

    def record_unpacked(
        self,
        job: UnpackJob,
        run: int,
        host: str,
        *,
        total: int,
        clips: Sequence[NewClip],
        skipped: Sequence[tuple[str, str]],
        metadata_matched: int | None = None,
        metadata_problems: Sequence[tuple[str, str]] = (),
        on_progress: Callable[[], None] = lambda: None,
    ) -> bool:
        """Record the batch and its clips: pending, or failed when a clip has an error. Calls `on_progress` per clip.

        A clip with results keeps them and its state while it is done again: reviewers see the older verdict until
        the new one is there. Returns False, and writes nothing, when a newer run of unpack has begun or the batch was
        cancelled.
        """
        with self._transaction() as cursor:
            cursor.execute(
                """
                UPDATE batches SET
                    s3_key = %s, unpacked_at = now(), unpack_host = %s,
                    original_filename = coalesce(%s, original_filename),
                    transferred_at = coalesce(%s, transferred_at),
                    total = %s, skipped_members = %s, completed_at = NULL,
                    metadata_matched = %s, metadata_problems = %s
                WHERE batch_id = %s AND unpack_run = %s AND cancelled_at IS NULL
                RETURNING 1
                """,
                (
                    job.s3_key,
                    host,
                    job.archive_name,
                    time_or_none(job.transferred_at),
                    total,
                    json_text([{"name": name, "reason": reason} for name, reason in skipped]),
                    metadata_matched,
                    json_text([{"of": subject, "reason": reason} for subject, reason in metadata_problems]),
                    job.batch_id,
                    run,
                ),
            )
            if cursor.fetchone() is None:
                return False
            psycopg2.extras.execute_values(
                cursor,
                f"""
                INSERT INTO audio_files (batch_id, original_filename, status, error, duration_s, source_format,
                                         source_bytes, source_sha256, platform_metadata, audio_notes, peaks,
                                         loudness_lufs, peak_dbfs)
                VALUES %s
                ON CONFLICT (batch_id, original_filename) DO UPDATE SET
                    status = EXCLUDED.status, error = EXCLUDED.error, duration_s = EXCLUDED.duration_s,
                    source_format = EXCLUDED.source_format, source_bytes = EXCLUDED.source_bytes,
                    source_sha256 = EXCLUDED.source_sha256, platform_metadata = EXCLUDED.platform_metadata,
                    audio_notes = EXCLUDED.audio_notes, peaks = EXCLUDED.peaks,
                    loudness_lufs = EXCLUDED.loudness_lufs, peak_dbfs = EXCLUDED.peak_dbfs
                WHERE NOT (audio_files.{HAS_RESULTS})
                """,  # noqa: S608 -- a constant
                _calling(on_progress, (_clip_row(job.batch_id, clip) for clip in clips)),
            )
            return True

    def find_clip(self, job: TranscribeJob) -> ClipRow | None:
        """The clip's row, if there is one."""
        with self._transaction() as cursor:
            return _find_clip(cursor, job)

    def ensure_clip(self, job: TranscribeJob) -> ClipRow:
        """The clip's row, made when there is none.

        An `audio_id` that an operator names is used when it is this clip's, or free; when it is another clip's, this
        clip keeps, or gets, an id of its own, so that no result is ever written over another clip's.
        """
        with self._transaction() as cursor:
            found = _find_clip(cursor, job)
            if found is None:
                cursor.execute("INSERT INTO batches (batch_id) VALUES (%s) ON CONFLICT DO NOTHING", (job.batch_id,))
                insert_clip(cursor, job)
                found = _find_clip(cursor, job)
        if found is None:  # a clip inserted at the same moment took the id
            raise RetryableError(f"the row of {job.original_filename} of batch {job.batch_id} could not be made")
        return found

    def has_results(self, audio_id: int, wanted: WantedResults) -> bool:
        """Whether the clip has all wanted results."""
        with self._transaction() as cursor:
            return clip_has(cursor, audio_id, wanted)

    def record_policies(self, policies: Iterable[Policy], directory: Path) -> None:
        """Keep the texts of the policies of `directory`; raises what `check_policies` raises."""
        with self._transaction() as cursor:
            known_policies.record(cursor, policies, directory)

    def check_policies(self, policies: Iterable[Policy], directory: Path) -> None:
        """Compare the policies of `directory` with those that workers have used.

        Raises
        ------
        PolicyError
            A policy's text was edited and its version was not; the message names the file and what to do.
        """
        with self._transaction() as cursor:
            known_policies.check(cursor, policies, directory)

    def known_scores(
        self, policies: Sequence[Policy], texts: Sequence[str], *, model: str, prompt_version: str
    ) -> dict[tuple[str, str], Score]:
        """(policy id, text) -> the score that this text has had from this policy text, model and prompt before."""
        with self._transaction() as cursor:
            return known_scores.find(cursor, policies, texts, model, prompt_version)

    def save_results(
        self,
        audio_id: int,
        *,
        transcript: Transcript,
        speech_model: str,
        verdicts: Sequence[Verdict],
        s3_opus_path: str,
        duration_s: float,
        levels: Levels | None = None,
        not_judged: NotJudged | None = None,
        transcribe_s: float | None = None,
        classify_s: float | None = None,
    ) -> None:
        """Save transcript, verdicts and the clip's status in one transaction.

        `levels` replaces what unpack measured; None keeps it. `not_judged` says why there is no verdict although there
        is speech; the last two are the models' seconds.
        """
        with self._transaction() as cursor:
            transcript_id = save_transcript(cursor, audio_id, transcript, speech_model, not_judged)
            for verdict in verdicts:
                save_verdict(cursor, audio_id, transcript_id, verdict)
            cursor.execute(
                """
                UPDATE audio_files SET status = %s, s3_opus_path = %s, error = NULL, processed_at = now(),
                                       duration_s = coalesce(duration_s, %s), transcribe_s = %s, classify_s = %s
                WHERE audio_id = %s
                """,
                (
                    "no_speech" if transcript.no_speech else "done",
                    s3_opus_path,
                    duration_s,
                    transcribe_s,
                    classify_s,
                    audio_id,
                ),
            )
            if levels is not None:
                save_levels(cursor, audio_id, levels)
            recount_if_complete(cursor, audio_id)

    def mark_failed(self, batch_id: str, original_filename: str, error: str) -> None:
        """The clip was given up. A clip that has results keeps them."""
        with self._transaction() as cursor:
            cursor.execute(
                """
                UPDATE audio_files SET status = 'failed', error = %s, processed_at = now()
                WHERE batch_id = %s AND original_filename = %s AND status = 'pending'
                """,
                (storable(error), batch_id, original_filename),
            )

    def finish_batch(self, batch_id: str, is_finishing: Callable[[str], bool] = lambda _: True) -> FinishedBatch | None:
        """Record the batch's completion; None when it was recorded before. The counts come from its clips.

        `is_finishing` is called while the batch's row is locked. Requeue and cancel lock it as well, so a worker cannot
        complete a batch that an operator has requeued or cancelled meanwhile.
        """
        with self._transaction() as cursor:
            cursor.execute("SELECT 1 FROM batches WHERE batch_id = %s FOR UPDATE", (batch_id,))
            if not is_finishing(batch_id):
                return None
            cursor.execute(
                f"""
                UPDATE batches b SET completed_at = now(), processed = n.processed, failed = n.failed
                FROM ({COUNTS}) n
                WHERE b.batch_id = %s AND b.completed_at IS NULL
                RETURNING b.total, b.processed, b.failed, extract(epoch FROM now() - b.unpacked_at)::float8
                """,  # noqa: S608 -- a constant
                (batch_id, batch_id),
            )
            found = cursor.fetchone()
            return FinishedBatch(*found) if found else None

    def unfinished_batches(self, host: str | None = None) -> list[UnpackJob]:
        """Batches with an archive that are not complete (of one host's scratch, or all), as their unpack jobs."""
        with self._transaction() as cursor:
            cursor.execute(
                """
                SELECT batch_id, s3_key, original_filename, transferred_at
                FROM batches
                WHERE completed_at IS NULL AND cancelled_at IS NULL AND s3_key IS NOT NULL
                  AND coalesce(unpack_host = %s, %s)
                ORDER BY created_at, batch_id
                """,
                (host, host is None),
            )
            return [
                UnpackJob(batch_id=batch_id, s3_key=key, archive_name=name, transferred_at=at and at.isoformat())
                for batch_id, key, name, at in cursor.fetchall()
            ]

    def known_batches(self) -> set[str]:
        with self._transaction() as cursor:
            cursor.execute("SELECT batch_id FROM batches WHERE s3_key IS NOT NULL")
            return {batch_id for (batch_id,) in cursor.fetchall()}

    def batch_finished(self, batch_id: str) -> bool | None:
        """Whether the batch is complete or cancelled; None when it was never unpacked."""
        with self._transaction() as cursor:
            cursor.execute(
                "SELECT completed_at IS NOT NULL OR cancelled_at IS NOT NULL FROM batches "
                "WHERE batch_id = %s AND unpacked_at IS NOT NULL",
                (batch_id,),
            )
            found = cursor.fetchone()
            return found[0] if found else None


def _find_clip(cursor: psycopg2.extensions.cursor, job: TranscribeJob) -> ClipRow | None:
    cursor.execute(
        "SELECT audio_id, status, s3_opus_path, peaks IS NOT NULL FROM audio_files "
        "WHERE batch_id = %s AND original_filename = %s",
        (job.batch_id, job.original_filename),
    )
    found = cursor.fetchone()
    return ClipRow(*found) if found else None


def _calling(on_progress: Callable[[], None], rows: Iterator[Any]) -> Iterator[Any]:
    """The rows, with a call of `on_progress` before each."""
    for row in rows:
        on_progress()
        yield row


def _clip_row(batch_id: str, clip: NewClip) -> tuple[Any, ...]:
    return (
        batch_id,
        clip.original_filename,
        "failed" if clip.error else "pending",
        clip.error and storable(clip.error),
        clip.duration_s,
        clip.source_format,
        clip.source_bytes,
        clip.source_sha256,
        None if clip.platform_metadata is None else json_text(clip.platform_metadata),
        json_text(list(clip.audio_notes)),
        clip.levels and clip.levels.peaks,
        clip.levels and clip.levels.loudness_lufs,
        clip.levels and clip.levels.peak_dbfs,
    )
