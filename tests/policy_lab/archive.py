"""Stored transcripts for tests, written as a worker writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from config import Settings
from db import TranscriptArchive, Verdict
from jobs.payloads import TranscribeJob
from transcription import Transcript

Query = Callable[..., list[tuple[Any, ...]]]


def transcript(text: str, language: str = "en", translation: str | None = None) -> Transcript:
    return Transcript(
        text=text, language=language, language_probability=0.9, segments=(), speech_s=2.5,
        finding="speech" if text else "no_speech", reasons=() if text else ("no-speech-found",), avg_logprob=-0.2,
        no_speech_prob=0.01, compression_ratio=1.1, translation=translation,
    )  # fmt: skip


class Archive:
    def __init__(self, db: TranscriptArchive, query: Query, settings: Settings) -> None:
        self.db, self.query, self.settings = db, query, settings

    def store(
        self, text: str, *verdicts: Verdict, clip: str | None = None, batch: str = "b1", language: str = "en",
        model: str = "base", translation: str | None = None,
    ) -> int:  # fmt: skip
        """Store a clip's transcript -> its audio id. The same clip again is the clip done again."""
        name = clip or f"{text}.mp3"
        job = TranscribeJob(opus_path=Path("/s/x.opus"), batch_id=batch, original_filename=name)
        audio_id = self.db.ensure_clip(job).audio_id
        self.db.save_results(
            audio_id, transcript=transcript(text, language, translation), speech_model=model, verdicts=verdicts,
            s3_opus_path=f"processed/2026-01-01/{audio_id}.opus", duration_s=2.5,
        )  # fmt: skip
        return audio_id

    def mark_not_judged(self, audio_id: int) -> None:
        self.query("UPDATE transcripts SET not_judged = 'language' WHERE audio_id = %s RETURNING 1", audio_id)

    def verdicts(self) -> list[tuple[Any, ...]]:
        """(text, policy, version, violates, score) in force."""
        return self.query(
            "SELECT t.text, v.policy, v.policy_version, v.violates, v.score FROM verdicts_in_force v "
            "JOIN transcripts t USING (transcript_id) ORDER BY t.text, v.policy"
        )

    def rows(self) -> Sequence[tuple[Any, ...]]:
        """All that the tables of results hold."""
        return [
            *self.query("SELECT c::text FROM classifications c ORDER BY classification_id"),
            *self.query("SELECT t::text FROM transcripts t ORDER BY transcript_id"),
            *self.query("SELECT a::text FROM audio_files a ORDER BY audio_id"),
        ]
