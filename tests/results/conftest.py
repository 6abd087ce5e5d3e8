"""A batch of two clips in Postgres, and what is saved of the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from config import Settings
from db import DatabaseOverview, NewClip, NotJudged, Verdict, WantedResults
from jobs.payloads import TranscribeJob, UnpackJob
from local.services import Database as PostgresDatabase
from transcription import Transcript

ROOT = Path(__file__).resolve().parents[2]
JOB = UnpackJob(batch_id="b1", s3_key="archives/b1.tar")
CLIPS = ("a.mp3", "b.mp3")
HEARD = Transcript(
    text="we meet at the market", language="en", language_probability=0.9, segments=(), speech_s=2.5, finding="speech",
    reasons=(), avg_logprob=-0.2, no_speech_prob=0.01, compression_ratio=1.1,
)  # fmt: skip
SILENT = replace(HEARD, text="", language=None, speech_s=0.0, finding="no_speech", reasons=("no-speech-found",))
FLAGGED = Verdict(
    policy="hate-speech", policy_version="1.0.0", policy_sha256="ab", model="m", prompt_version="p1",
    violates=True, score=0.9, threshold=0.5, mass=0.99, truncated=False,
)  # fmt: skip
CLEAN = replace(FLAGGED, violates=False, score=0.1)


class Batch:
    def __init__(self, db: DatabaseOverview, dsn: str) -> None:
        self.db, self._dsn = db, dsn
        self.unpack()
        self.audio_id = self.row(CLIPS[0])

    def row(self, clip: str) -> int:
        job = TranscribeJob(opus_path=Path("/s/x.opus"), batch_id="b1", original_filename=clip)
        return self.db.ensure_clip(job).audio_id

    def unpack(self) -> None:
        clips = [NewClip(original_filename=name) for name in CLIPS]
        run = self.db.begin_unpack(JOB)
        assert self.db.record_unpacked(JOB, run, "host-1", total=len(clips), clips=clips, skipped=[])

    def save(
        self,
        *verdicts: Verdict,
        transcript: Transcript = HEARD,
        speech_model: str = "base",
        not_judged: NotJudged | None = None,
    ) -> None:
        self.db.save_results(
            self.audio_id, transcript=transcript, speech_model=speech_model, verdicts=verdicts, not_judged=not_judged,
            s3_opus_path=f"processed/2026-01-01/{self.audio_id}.opus", duration_s=2.5,
        )  # fmt: skip

    def has(self, wanted: WantedResults) -> bool:
        """Whether the first clip has them; both workers' questions must have the same answer."""
        answer = self.db.has_results(self.audio_id, wanted)
        assert self.db.done_clips("b1", wanted) == ({CLIPS[0]} if answer else set())
        return answer

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self._dsn)
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            found = cursor.fetchall() if cursor.description else []
        connection.close()
        return found

    def change(self, sql: str) -> None:
        """Do what neither this release nor the pipeline's role does."""
        self.query(sql)

    def queue(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT policies, transcript FROM ra_queue")


@pytest.fixture
def batch(settings: Settings, database: PostgresDatabase) -> Iterator[Batch]:
    connection = psycopg2.connect(database.admin_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE batches, policies CASCADE")
    connection.close()
    opened = DatabaseOverview(settings)
    yield Batch(opened, database.admin_dsn)
    opened.close()
