"""Which results are in force, and which clips have all that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config import Settings, load_settings
from db import DatabaseOverview, NewClip, Verdict, WantedResults, wanted_results
from errors import ModelError, PolicyError
from jobs.payloads import TranscribeJob, UnpackJob
from transcription import Transcript

Query = Callable[..., list[tuple[Any, ...]]]

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
WANTED = WantedResults("base", (("hate-speech", "1.0.0", "m"),))
NEWER = WantedResults("base", (("hate-speech", "2.0.0", "m"),))


class Batch:
    """A batch of two clips in Postgres, and methods that save results of the first clip."""

    def __init__(self, db: DatabaseOverview, query: Query) -> None:
        self.db, self.query = db, query
        self.unpack()
        job = TranscribeJob(opus_path=Path("/s/x.opus"), batch_id="b1", original_filename=CLIPS[0])
        self.audio_id = db.ensure_clip(job).audio_id

    def unpack(self) -> None:
        clips = [NewClip(original_filename=name) for name in CLIPS]
        run = self.db.begin_unpack(JOB)
        assert self.db.record_unpacked(JOB, run, "host-1", total=len(clips), clips=clips, skipped=[])

    def save(self, *verdicts: Verdict, transcript: Transcript = HEARD, speech_model: str = "base") -> None:
        self.db.save_results(
            self.audio_id, transcript=transcript, speech_model=speech_model, verdicts=verdicts,
            s3_opus_path=f"processed/2026-01-01/{self.audio_id}.opus", duration_s=2.5,
        )  # fmt: skip

    def has(self, wanted: WantedResults) -> bool:
        """Whether the first clip has these results. The questions of both workers must have the same answer."""
        answer = self.db.has_results(self.audio_id, wanted)
        assert self.db.done_clips("b1", wanted) == ({CLIPS[0]} if answer else set())
        return answer

    def queue(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT policies, transcript FROM ra_queue")


@pytest.fixture
def batch(settings: Settings, query: Query) -> Iterator[Batch]:
    query("TRUNCATE batches CASCADE")
    opened = DatabaseOverview(settings)
    yield Batch(opened, query)
    opened.close()


def test_results_are_complete_only_with_every_policys_verdict(batch: Batch) -> None:
    batch.save(CLEAN)
    assert batch.has(WANTED)
    assert batch.has(WantedResults("base"))
    assert not batch.has(NEWER)
    assert not batch.has(replace(WANTED, verdicts=(("hate-speech", "1.0.0", "another model"),)))
    assert not batch.has(replace(WANTED, verdicts=(*WANTED.verdicts, ("scams", "1.0.0", "m"))))


def test_a_verdict_counts_only_with_the_wanted_speech_models_transcript(batch: Batch) -> None:
    batch.save(CLEAN)
    batch.save(CLEAN, speech_model="large")
    assert batch.has(replace(WANTED, speech_model="large"))
    assert not batch.has(WANTED)


def test_a_clip_without_speech_has_the_results_of_any_policy_version(batch: Batch) -> None:
    batch.save(transcript=SILENT)
    assert batch.has(WANTED)
    assert batch.has(NEWER)
    assert not batch.has(replace(WANTED, speech_model="large"))


def test_a_model_that_hears_no_speech_takes_the_clip_out_of_the_queue(batch: Batch) -> None:
    batch.save(FLAGGED)
    batch.save(transcript=SILENT, speech_model="large")
    assert batch.queue() == []
    assert batch.has(replace(NEWER, speech_model="large"))
    assert not batch.has(WANTED)


def test_a_clip_that_an_operator_wants_done_again_has_no_results(batch: Batch) -> None:
    batch.save(CLEAN)
    with batch.db.reopened_batch("b1", everything=True):
        pass
    assert not batch.has(WANTED)


def test_a_clip_without_any_result_is_not_done(batch: Batch) -> None:
    assert not batch.has(WantedResults("base"))


@pytest.mark.parametrize(
    ("first", "second", "queued"),
    [(FLAGGED, CLEAN, [(["hate-speech"], HEARD.text)]), (CLEAN, FLAGGED, [])],
    ids=["flagged by the old version", "clean by the old version"],
)
def test_the_verdict_in_force_is_the_one_that_was_judged_last(
    batch: Batch, first: Verdict, second: Verdict, queued: list[Any]
) -> None:
    batch.save(first)
    batch.save(replace(second, policy_version="2.0.0"))
    assert batch.has(NEWER)
    assert not batch.has(WANTED), "going back to the older version is a change as well"
    batch.save(first)
    assert batch.has(WANTED)
    assert not batch.has(NEWER)
    assert batch.query("SELECT policy_version, violates FROM verdicts_in_force") == [("1.0.0", first.violates)]
    assert batch.queue() == queued
    assert next(clip.flagged for clip in batch.db.clips("b1")) == (["hate-speech"] if queued else [])
    assert batch.query("SELECT count(*) FROM classifications") == [(2,)], "both stay, one row each"


def test_the_queue_shows_the_transcript_that_the_last_verdict_is_about(batch: Batch) -> None:
    batch.save(FLAGGED)
    batch.save(FLAGGED, transcript=replace(HEARD, text="second"), speech_model="large")
    assert batch.queue() == [(["hate-speech"], "second")]
    batch.save(FLAGGED, transcript=replace(HEARD, text="third"))
    assert batch.queue() == [(["hate-speech"], "third")]


@pytest.mark.parametrize("everything", [False, True])
def test_reviewers_keep_the_older_verdict_while_a_clip_is_done_again(batch: Batch, *, everything: bool) -> None:
    batch.save(FLAGGED)
    before = batch.queue()
    with batch.db.reopened_batch("b1", everything=everything):
        pass
    batch.unpack()
    assert batch.queue() == before != []
    batch.db.mark_failed("b1", CLIPS[0], "cannot be read any more")
    assert batch.queue() == before


def test_a_requeue_counts_the_clips_that_lack_a_wanted_result(batch: Batch) -> None:
    assert batch.db.clips_to_do("b1", WANTED) == 2
    batch.save(CLEAN)
    assert batch.db.clips_to_do("b1", WANTED) == 1
    assert batch.db.clips_to_do("b1", NEWER) == 2


def test_wanted_results_come_from_the_policies_and_the_manifest(settings: Settings) -> None:
    wanted = wanted_results(settings)
    assert wanted.speech_model == "base"
    assert ("hate-speech", "1.0.0", "gemma-3-270m-demo") in wanted.verdicts


def test_wanted_results_that_cannot_be_read_are_an_error_that_says_where(
    settings_env: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match="holds no policy"):
        wanted_results(load_settings({**settings_env, "POLICIES_DIR": str(tmp_path)}))
    with pytest.raises(ModelError, match="MODEL_SET"):
        wanted_results(load_settings({**settings_env, "MODEL_SET": "huge"}))
