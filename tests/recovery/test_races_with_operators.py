"""A worker's action that began just before an operator's command. `tests/cli/test_while_workers_work.py` tests load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from config import Settings
from db import DatabaseOverview
from errors import PermanentError
from jobs import dead_letters
from jobs.batches import Batches, BatchStart
from jobs.job_queue import FAILED, UNPACK, Claim, ClipRef, JobQueue, WorkerName
from jobs.payloads import TranscribeJob, UnpackJob
from jobs.queue_snapshot import StandingJob, standing_jobs

JOB = UnpackJob(batch_id="b1", s3_key="archives/b1.tar")
CLIPS = ("a.mp3", "b.mp3")
TRANSCRIBE = "queue:transcribe"
SCRATCH = Path("/data/scratch")


@pytest.fixture
def queue(redis_db: redis.Redis) -> JobQueue:
    worker = WorkerName.of_this_process("host-1")
    redis_db.set(worker.heartbeat_key, "{}")
    return JobQueue(redis_db, worker)


@pytest.fixture
def db(settings: Settings, database: Any) -> Iterator[DatabaseOverview]:  # noqa: ARG001 -- it must be there
    found = DatabaseOverview(settings)
    with found._transaction() as cursor:
        cursor.execute("UPDATE batches SET completed_at = NULL, cancelled_at = NULL")
    yield found
    found.close()


def begin(client: redis.Redis, queue: JobQueue, run: str) -> None:
    """The archive is unpacked: its batch begins."""
    client.rpush(UNPACK, JOB.to_json())
    claim = queue.claim([UNPACK])
    assert claim
    jobs = [TranscribeJob(opus_path=SCRATCH / "b1" / clip, batch_id="b1", original_filename=clip) for clip in CLIPS]
    assert Batches(client).start(queue, claim, BatchStart(JOB, jobs, 0, {}, run), TRANSCRIBE) == "ok"


def test_a_clip_in_hand_when_its_batch_is_requeued_does_not_count_in_the_next_run(redis_db, queue):
    """Otherwise it would end the new run before the clip's job of this run is done, and delete its files."""
    batches = Batches(redis_db)
    begin(redis_db, queue, "1")
    claim = queue.claim([TRANSCRIBE])
    assert claim
    assert batches.restart(JOB, SCRATCH) == 2
    redis_db.delete(UNPACK)
    begin(redis_db, queue, "2")
    assert queue.settle(claim, clip=ClipRef("b1", CLIPS[0]), dead_letter=b"{}") == "lost"
    assert batches.pending("b1") == set(CLIPS)
    assert redis_db.llen(FAILED) == 0


def test_a_requeue_takes_the_batchs_dead_letters_along_and_no_others(redis_db, queue, tmp_path):
    begin(redis_db, queue, "1")
    claim = queue.claim([TRANSCRIBE])
    assert claim
    error = PermanentError("broken")
    clip = ClipRef("b1", CLIPS[0])
    queue.settle(claim, clip=clip, dead_letter=dead_letters.write(claim, error, worker=queue.worker, clip=clip))
    others = [json.dumps({"batch_id": "b10", "payload": "x"}).encode(), b"no letter, but b1 stands in it", b"[" * 9000]
    archive = dead_letters.write(Claim(UNPACK, JOB.to_json(), 0, 0), error, worker=queue.worker, clip=None, parked=None)
    redis_db.rpush(FAILED, archive, *others)
    batches = Batches(redis_db)
    batches.cancel("b1", SCRATCH)
    assert redis_db.llen(FAILED) == 2 + len(others), "the letters of a cancelled batch stay"
    batches.restart(JOB, SCRATCH, dead_letters.DeadLetters(redis_db, tmp_path).of_batch("b1"))
    assert redis_db.lrange(FAILED, 0, -1) == others
    assert redis_db.lrange(UNPACK, 0, -1) == [JOB.to_json()]


def test_a_job_that_is_put_off_or_comes_back_is_found_by_a_cancel(redis_db, queue):
    begin(redis_db, queue, "1")
    claim = queue.claim([TRANSCRIBE])
    assert claim
    queue.retry_later(claim, 1000, failed=True)
    redis_db.rpush(f"{TRANSCRIBE}:host-2", claim.payload, b"another job")
    assert Batches(redis_db).cancel("b1", SCRATCH) == 3
    assert redis_db.lrange(f"{TRANSCRIBE}:host-2", 0, -1) == [b"another job"]
    assert redis_db.keys("queue:[du-]*") == redis_db.keys("queue:attempts") == redis_db.keys("batch*") == []


def test_a_worker_that_looked_just_before_a_drain_claims_nothing_after_it(redis_db, queue):
    redis_db.rpush(UNPACK, b"x")
    for key in queue.worker.drain_keys:
        redis_db.set(key, "somebody")
        assert queue.claim([UNPACK]) is None
        redis_db.delete(key)
    claim = queue.claim([UNPACK])
    assert claim
    assert queue.owns(claim)
    queue.hand_back(claim)
    assert not queue.owns(claim)


def test_a_worker_that_claimed_an_archive_before_its_cancel_does_not_begin_it(db):
    db.begin_unpack(JOB)
    with db.cancelled_batch("b1") as in_time:
        assert in_time
    with pytest.raises(PermanentError, match="was cancelled; audio-pipeline batch requeue b1"):
        db.begin_unpack(JOB)
    with db.reopened_batch("b1", everything=False):
        pass
    db.begin_unpack(JOB)


def test_a_run_that_was_requeued_just_before_its_completion_is_not_completed(db):
    db.begin_unpack(JOB)
    assert db.finish_batch("b1", lambda _: False) is None
    assert db.finish_batch("b1", lambda batch_id: batch_id == "b1")
    with db.cancelled_batch("b1") as in_time:
        assert not in_time, "it is complete"


def test_a_batch_that_begins_while_a_cancel_looks_for_its_jobs_is_cancelled(redis_db, queue, monkeypatch):
    batches = Batches(redis_db)

    def look_too_early(client: redis.Redis, scratch_root: Path) -> list[StandingJob]:
        monkeypatch.setattr("jobs.batches.standing_jobs", standing_jobs)  # the next look is in time
        found = standing_jobs(client, scratch_root)
        begin(redis_db, queue, "1")
        return found

    monkeypatch.setattr("jobs.batches.standing_jobs", look_too_early)
    assert batches.cancel("b1", SCRATCH) == len(CLIPS)
    assert redis_db.keys("batch*") == redis_db.keys("queue:*") == []
