"""A reviewer sees the verdict that is in force in the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config import Settings
from db import Database, Verdict
from jobs.payloads import TranscribeJob
from tests.ra_app.world import Visitor, World
from transcription import Transcript

SPOKEN = Transcript(
    text="we meet at the market", language="en", language_probability=0.9, segments=(), speech_s=2.5, finding="speech",
    reasons=(), avg_logprob=-0.2, no_speech_prob=0.01, compression_ratio=1.1,
)  # fmt: skip
FLAGGED = Verdict(
    policy="hate-speech", policy_version="1.0.0", policy_sha256="ab", model="m", prompt_version="p1",
    violates=True, score=0.9, threshold=0.5, mass=0.99, truncated=False,
)  # fmt: skip
CLEAN = replace(FLAGGED, policy_version="2.0.0", violates=False, score=0.1)


@pytest.fixture
def pipeline(settings: Settings) -> Iterator[Database]:
    opened = Database(settings)
    yield opened
    opened.close()


def judge(pipeline: Database, verdict: Verdict, *, heard: Transcript = SPOKEN, speech_model: str = "base") -> int:
    """Save a verdict as the GPU worker does -> the clip's number."""
    job = TranscribeJob(opus_path=Path("/s/b1/a.opus"), batch_id="b1", original_filename="a.mp3")
    audio_id = pipeline.ensure_clip(job).audio_id
    pipeline.save_results(
        audio_id, transcript=heard, speech_model=speech_model, verdicts=[verdict],
        s3_opus_path=f"processed/2026-01-01/{audio_id}.opus", duration_s=2.5,
    )  # fmt: skip
    return audio_id


def test_the_page_shows_the_verdict_that_was_judged_last(mira: Visitor, world: World, pipeline: Database) -> None:
    clip = judge(pipeline, FLAGGED)
    mira.label(clip, "hate")
    mira.post(f"/review/{clip}/reveal")
    judge(pipeline, CLEAN)
    page = mira.get(f"/review/{clip}").text
    assert "2.0.0" in page
    assert "does not violate" in page
    assert world.sql("SELECT count(*) FROM ra_queue") == [(0,)]

    judge(pipeline, FLAGGED)
    page = mira.get(f"/review/{clip}").text
    assert "1.0.0" in page
    assert "2.0.0" not in page
    assert "does not violate" not in page
    assert world.sql("SELECT audio_id, policies FROM ra_queue") == [(clip, ["hate-speech"])]


def test_a_clip_that_left_the_queue_shows_the_transcript_made_last(mira: Visitor, pipeline: Database) -> None:
    clip = judge(pipeline, FLAGGED)
    mira.label(clip, "hate")
    judge(pipeline, CLEAN, heard=replace(SPOKEN, text="by another model"), speech_model="large")
    assert "by another model" in mira.get(f"/review/{clip}").text
    judge(pipeline, CLEAN, heard=replace(SPOKEN, text="by the first model again"))
    assert "by the first model again" in mira.get(f"/review/{clip}").text


@pytest.mark.parametrize(
    ("lacks", "has"),
    [
        ("ALTER VIEW verdicts_in_force RENAME TO hidden", "ALTER VIEW hidden RENAME TO verdicts_in_force"),
        *(
            (f"ALTER TABLE {table} RENAME {column} TO hidden", f"ALTER TABLE {table} RENAME hidden TO {column}")
            for table, column in (
                ("ra_queue", "finding"),
                ("transcripts", "reasons"),
                ("transcripts", "finding"),
                ("audio_files", "processed_at"),
                ("verdicts_in_force", "threshold"),
            )
        ),
    ],
)
def test_without_the_releases_schema_the_app_is_not_healthy(
    visitor: Visitor, world: World, lacks: str, has: str
) -> None:
    world.sql(lacks)
    try:
        answer = visitor.get("/healthz")
    finally:
        world.sql(has)
    assert (answer.status_code, answer.text) == (503, "unavailable\n")
    assert visitor.get("/healthz").status_code == 200
