"""Postgres: what the pipeline reads and writes, as functions named after what they record.

Every write can be repeated: a clip that is delivered twice finds its row and overwrites it with the same results. One
connection, opened when first used and opened again after it broke; each method is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from config import Settings
from errors import OperatorError, PermanentError, RetryableError, ServiceUnavailableError
from jobs.payloads import TranscribeJob, UnpackJob
from results.connection import connect
from results.rows import COUNTS, Verdict, insert_clip, one_row, recount_if_complete, save_transcript, save_verdict
from results.values import json_text, storable, time_or_none
from results.wanted import HAS_RESULTS, WantedResults, clip_has, clips_with
from system import tls_errors

if TYPE_CHECKING:  # with numpy, which the command line can do without
    from transcription import Transcript

SCHEMA_VERSION = 6  # of schema.sql; workers wait for it
MIN_SERVER_VERSION = 140000


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


@dataclass(frozen=True)
class ClipRow:
    audio_id: int
    status: str  # pending, done, no_speech or failed
    s3_opus_path: str | None


@dataclass(frozen=True)
class FinishedBatch:
    total: int
    processed: int
    failed: int
    seconds: float | None  # since the archive was unpacked


class Database:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: psycopg2.extensions.connection | None = None

    def check(self) -> None:
        """Reach the database and find our schema; raises OperatorError with one sentence."""
        with self._transaction() as cursor:
            server = cursor.connection.server_version
            if server < MIN_SERVER_VERSION:
                raise OperatorError(f"Postgres is version {server // 10000}, but 14 or newer is needed")
            cursor.execute("SELECT to_regclass('schema_version') IS NOT NULL")
            version = 0
            if one_row(cursor)[0]:
                cursor.execute("SELECT coalesce(max(version), 0) FROM schema_version")
                version = one_row(cursor)[0]
        if version < SCHEMA_VERSION:
            raise OperatorError(
                f"the database {self._settings.postgres_db} has schema version {version}, but this release needs "
                f"{SCHEMA_VERSION}; apply schema.sql: psql -d {self._settings.postgres_db} -f schema.sql"
            )

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
                                         source_bytes, source_sha256, platform_metadata, audio_notes)
                VALUES %s
                ON CONFLICT (batch_id, original_filename) DO UPDATE SET
                    status = EXCLUDED.status, error = EXCLUDED.error, duration_s = EXCLUDED.duration_s,
                    source_format = EXCLUDED.source_format, source_bytes = EXCLUDED.source_bytes,
                    source_sha256 = EXCLUDED.source_sha256, platform_metadata = EXCLUDED.platform_metadata,
                    audio_notes = EXCLUDED.audio_notes
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

    def save_results(
        self,
        audio_id: int,
        *,
        transcript: Transcript,
        speech_model: str,
        verdicts: Sequence[Verdict],
        s3_opus_path: str,
        duration_s: float,
        transcribe_s: float | None = None,
        classify_s: float | None = None,
    ) -> None:
        """Save transcript, verdicts and the clip's status in one transaction; the last two are the models' seconds."""
        with self._transaction() as cursor:
            transcript_id = save_transcript(cursor, audio_id, transcript, speech_model)
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

    def server_time(self) -> float:
        """The server's clock, in Unix seconds."""
        with self._transaction() as cursor:
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            return float(one_row(cursor)[0])

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

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[psycopg2.extensions.cursor]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._settings)
            with self._connection, self._connection.cursor() as cursor:
                yield cursor
        except psycopg2.errors.ProgramLimitExceeded as error:  # to psycopg2 an OperationalError, but the input's fault
            raise PermanentError(f"Postgres cannot store this, part of it is too long ({_brief(error)})") from error
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self.close()
            if refused := tls_errors.explained(
                error, "Postgres", "POSTGRES_HOST", "POSTGRES_CA_FILE", "POSTGRES_PORT and POSTGRES_SSLMODE"
            ):
                raise ServiceUnavailableError(refused) from error
            raise ServiceUnavailableError(
                f"Postgres at {self._settings.postgres_host}:{self._settings.postgres_port} cannot be used; check that "
                f"it listens, pg_hba.conf, POSTGRES_USER, POSTGRES_PASSWORD ({_brief(error)})"
            ) from error
        except psycopg2.errors.InsufficientPrivilege as error:
            raise OperatorError(f"the database refuses us; apply schema.sql again ({_brief(error)})") from error
        except psycopg2.Error as error:
            raise RetryableError(f"Postgres refused a statement ({_brief(error)})") from error


def _find_clip(cursor: psycopg2.extensions.cursor, job: TranscribeJob) -> ClipRow | None:
    cursor.execute(
        "SELECT audio_id, status, s3_opus_path FROM audio_files WHERE batch_id = %s AND original_filename = %s",
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
    )


def _brief(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
