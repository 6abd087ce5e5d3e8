"""A clip's results in Postgres: its transcript, its verdicts, and the counts of its batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2.extensions

from errors import RetryableError
from jobs.payloads import TranscribeJob
from results.judged_text import Judged, NotJudged
from results.values import json_text, storable
from results.wanted import HAS_RESULTS

if TYPE_CHECKING:  # with numpy, which the command line can do without
    from media.levels import Levels
    from transcription import Transcript

# Takes a batch id.
COUNTS = f"""
    SELECT count(*) FILTER (WHERE {HAS_RESULTS}) AS processed,
           count(*) FILTER (WHERE status = 'failed') AS failed
    FROM audio_files WHERE batch_id = %s
"""  # noqa: S608 -- a constant


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One policy's verdict with all that is needed to trace it."""

    policy: str
    policy_version: str
    policy_sha256: str
    model: str
    prompt_version: str
    violates: bool
    score: float
    threshold: float
    mass: float
    truncated: bool
    judged: Judged = "transcript"  # which text the model read
    text_sha256: str | None = None  # of that text, see `JudgedText`


def save_transcript(
    cursor: psycopg2.extensions.cursor,
    audio_id: int,
    transcript: Transcript,
    speech_model: str,
    not_judged: NotJudged | None = None,
) -> int:
    values = {
        "text": storable(transcript.text),
        "language": transcript.language,
        "language_probability": transcript.language_probability,
        "segments": json_text([vars(segment) for segment in transcript.segments]),
        "speech_s": transcript.speech_s,
        "finding": transcript.finding,
        "reasons": list(transcript.reasons),
        "windows": json_text([vars(window) for window in transcript.windows]),
        "words": None if transcript.words is None else json_text([vars(word) for word in transcript.words]),
        "words_from": transcript.words_from,
        "translation": transcript.translation and storable(transcript.translation),
        "not_judged": not_judged,
        "no_speech": transcript.no_speech,
        "no_speech_reason": transcript.no_speech_reason,
        "avg_logprob": transcript.avg_logprob,
        "no_speech_prob": transcript.no_speech_prob,
        "compression_ratio": transcript.compression_ratio,
    }
    changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in values)
    cursor.execute(
        f"""
        INSERT INTO transcripts (audio_id, model, {", ".join(values)})
        VALUES (%s, %s, {", ".join(["%s"] * len(values))})
        ON CONFLICT (audio_id, model) DO UPDATE SET created_at = EXCLUDED.created_at, {changes}
        RETURNING transcript_id
        """,  # noqa: S608 -- the names are the literals above
        (audio_id, speech_model, *values.values()),
    )
    return int(one_row(cursor)[0])


def save_verdict(cursor: psycopg2.extensions.cursor, audio_id: int, transcript_id: int, verdict: Verdict) -> None:
    """Store a verdict, which is in force from now on: also one that was given before and replaced since.

    A row says when it was judged last, so that going back to an older version of a policy takes effect.
    """
    cursor.execute(
        """
        INSERT INTO classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model,
                                     prompt_version, violates, score, threshold, mass, truncated, judged, text_sha256)
        VALUES (%(audio_id)s, %(transcript_id)s, %(policy)s, %(policy_version)s, %(policy_sha256)s, %(model)s,
                %(prompt_version)s, %(violates)s, %(score)s, %(threshold)s, %(mass)s, %(truncated)s, %(judged)s,
                %(text_sha256)s)
        ON CONFLICT (audio_id, policy, policy_version, model) DO UPDATE SET
            transcript_id = EXCLUDED.transcript_id, policy_sha256 = EXCLUDED.policy_sha256,
            prompt_version = EXCLUDED.prompt_version, violates = EXCLUDED.violates, score = EXCLUDED.score,
            threshold = EXCLUDED.threshold, mass = EXCLUDED.mass, truncated = EXCLUDED.truncated,
            judged = EXCLUDED.judged, text_sha256 = EXCLUDED.text_sha256, created_at = EXCLUDED.created_at
        """,
        {"audio_id": audio_id, "transcript_id": transcript_id, **vars(verdict)},
    )


def save_levels(cursor: psycopg2.extensions.cursor, audio_id: int, levels: Levels) -> None:
    cursor.execute(
        "UPDATE audio_files SET peaks = %s, loudness_lufs = %s, peak_dbfs = %s WHERE audio_id = %s",
        (levels.peaks, levels.loudness_lufs, levels.peak_dbfs, audio_id),
    )


def recount_if_complete(cursor: psycopg2.extensions.cursor, audio_id: int) -> None:
    """Correct the counts of a complete batch: a clip that was retried gets its results after the completion."""
    cursor.execute(
        "SELECT batch_id FROM batches JOIN audio_files USING (batch_id) "
        "WHERE audio_id = %s AND completed_at IS NOT NULL FOR UPDATE OF batches",
        (audio_id,),
    )
    found = cursor.fetchone()
    if found:
        cursor.execute(
            f"UPDATE batches SET processed = n.processed, failed = n.failed FROM ({COUNTS}) n WHERE batch_id = %s",  # noqa: S608
            (found[0], found[0]),
        )


def one_row(cursor: psycopg2.extensions.cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    if row is None:
        raise RetryableError("Postgres returned no row where there must be one")
    return row


def insert_clip(cursor: psycopg2.extensions.cursor, job: TranscribeJob) -> None:
    if job.audio_id is not None:
        cursor.execute(
            """
            INSERT INTO audio_files (audio_id, batch_id, original_filename) VALUES (%s, %s, %s)
            ON CONFLICT DO NOTHING RETURNING audio_id
            """,
            (job.audio_id, job.batch_id, job.original_filename),
        )
        if cursor.fetchone():  # keep the sequence ahead of ids that were given by hand
            cursor.execute(
                "SELECT setval('audio_files_audio_id_seq', greatest(%s, last_value)) FROM audio_files_audio_id_seq",
                (job.audio_id,),
            )
            return
    cursor.execute(
        "INSERT INTO audio_files (batch_id, original_filename) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (job.batch_id, job.original_filename),
    )
