"""Rows of a clip that is erased because its author withdrew. Scores stay: they hold no word of the clip.

The pipeline's role may not delete rows, so a row stays and is emptied. Its name becomes `erased-{audio_id}`, and its
state that of a clip without speech: nothing processes it again, no batch waits for it, and no reviewer is shown it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from results.database import Database
from results.rows import one_row

_CLIP = """
    SELECT a.audio_id, a.batch_id, a.original_filename, a.s3_opus_path, a.source_sha256, a.source_bytes, a.created_at,
           a.processed_at, a.erased_at, b.s3_key,
           b.s3_key IS NOT NULL AND b.completed_at IS NULL AND b.cancelled_at IS NULL
    FROM audio_files a JOIN batches b USING (batch_id) WHERE a.audio_id = %s
"""
_EMPTY_CLIP = """
    UPDATE audio_files SET
        original_filename = 'erased-' || audio_id, s3_opus_path = NULL, status = 'no_speech', error = NULL,
        source_format = NULL, source_bytes = NULL, source_sha256 = NULL, platform_metadata = NULL, audio_notes = '[]',
        peaks = NULL, loudness_lufs = NULL, peak_dbfs = NULL, erased_at = coalesce(erased_at, now())
    WHERE audio_id = %s
"""
_EMPTY_TRANSCRIPTS = """
    UPDATE transcripts SET
        text = '', segments = '[]', words = NULL, words_from = NULL, windows = '[]', translation = NULL,
        no_speech = true, no_speech_reason = 'erased', finding = 'no_speech', reasons = '{}', not_judged = NULL
    WHERE audio_id = %s
"""
# What unpack noted of the archive may name the clip.
_FORGET_NOTES = """
    UPDATE batches b SET
        skipped_members = coalesce((SELECT jsonb_agg(e) FROM jsonb_array_elements(b.skipped_members) e
                                    WHERE strpos(e->>'name', %(stem)s) = 0), '[]'),
        metadata_problems = coalesce((SELECT jsonb_agg(e) FROM jsonb_array_elements(b.metadata_problems) e
                                      WHERE strpos(e->>'of', %(stem)s) = 0), '[]')
    WHERE batch_id = %(batch_id)s
"""


@dataclass(frozen=True)
class ErasableClip:
    audio_id: int
    batch_id: str
    original_filename: str
    s3_opus_path: str | None
    source_sha256: str | None
    source_bytes: int | None
    created_at: datetime
    processed_at: datetime | None
    erased_at: datetime | None
    archive_key: str | None
    under_way: bool  # its batch has an archive and is not complete


class Erasures(Database):
    ACTION = "clip erase"  # in the audit

    def clip(self, audio_id: int) -> ErasableClip | None:
        with self._transaction() as cursor:
            cursor.execute(_CLIP, (audio_id,))
            found = cursor.fetchone()
            return ErasableClip(*found) if found else None

    def empty(self, clip: ErasableClip, stem: str) -> dict[str, int]:
        """Empty the clip's rows in one transaction -> how many of each table. `stem`: its name without extension."""
        with self._transaction() as cursor:
            cursor.execute(_FORGET_NOTES, {"batch_id": clip.batch_id, "stem": stem})
            cursor.execute(_EMPTY_CLIP, (clip.audio_id,))
            cursor.execute(_EMPTY_TRANSCRIPTS, (clip.audio_id,))
            transcripts = cursor.rowcount
            cursor.execute("UPDATE classifications SET text_sha256 = NULL WHERE audio_id = %s", (clip.audio_id,))
            return {"transcripts": transcripts, "verdicts": cursor.rowcount}

    def flagged(self, audio_id: int) -> bool:
        """Whether reviewers are still shown the clip."""
        with self._transaction() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM ra_queue WHERE audio_id = %s)", (audio_id,))
            return bool(one_row(cursor)[0])

    def receipt(self, audio_id: int) -> dict[str, Any] | None:
        """The receipt of the erasure that ended, from the audit; None when there is none."""
        with self._transaction() as cursor:
            cursor.execute(
                "SELECT details->'receipt' FROM operator_actions WHERE action = %s AND subject = %s "
                "AND affected IS NOT NULL AND details ? 'receipt' ORDER BY action_id LIMIT 1",
                (self.ACTION, str(audio_id)),
            )
            found = cursor.fetchone()
            return found[0] if found else None
