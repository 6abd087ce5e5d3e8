"""Transcripts as they are stored, to be judged again without their audio."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2.extensions

from results.wanted import IS_JUDGED, WantedResults

# Newest per clip. `audio_id` orders and pages: each page continues behind the last one, whatever was judged meanwhile.
_FIND = """
    SELECT t.audio_id, t.transcript_id, t.model, t.text, t.language, t.translation, t.finding, t.not_judged,
           t.created_at
    FROM transcripts t JOIN audio_files a USING (audio_id)
    WHERE t.audio_id > %(after)s AND a.status = 'done' AND NOT t.no_speech AND NOT EXISTS (
        SELECT FROM transcripts n
        WHERE n.audio_id = t.audio_id AND (n.created_at, n.transcript_id) > (t.created_at, t.transcript_id))
"""


@dataclass(frozen=True)
class StoredTranscript:
    """A clip's newest transcript, which holds speech. `text_to_judge` takes it as it takes a new one."""

    audio_id: int
    transcript_id: int
    model: str
    text: str
    language: str | None
    translation: str | None
    finding: str  # speech or doubtful
    not_judged: str | None  # "language", or None if it has verdicts
    created_at: datetime  # when the clip was transcribed

    @property
    def no_speech(self) -> bool:
        return False


def find(
    cursor: psycopg2.extensions.cursor, lacking: WantedResults | None, *, not_judged: bool, after: int, limit: int
) -> list[StoredTranscript]:
    conditions, values = [_FIND], dict[str, Any](after=after, limit=limit)
    if not_judged:
        conditions.append("t.not_judged IS NOT NULL")
    if lacking is not None:
        conditions.append(f"{IS_JUDGED} IS NOT TRUE")
        values |= lacking.parameters
    cursor.execute(f"{' AND '.join(conditions)} ORDER BY t.audio_id LIMIT %(limit)s", values)
    return [StoredTranscript(*row) for row in cursor.fetchall()]


def mark_judged(cursor: psycopg2.extensions.cursor, transcript: StoredTranscript) -> bool:
    """Record that the transcript is judged; False if the clip was transcribed again since it was read."""
    cursor.execute(
        "UPDATE transcripts SET not_judged = NULL WHERE transcript_id = %s AND created_at = %s",
        (transcript.transcript_id, transcript.created_at),
    )
    return cursor.rowcount == 1
