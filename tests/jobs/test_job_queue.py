"""The queue: a job is always in exactly one place, and only its owner can move it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from errors import PermanentError
from jobs import dead_letters
from jobs.batches import Batches, BatchStart
from jobs.job_queue import FAILED, FINISHING, UNPACK, Claim, ClipRef, JobQueue, WorkerName
from jobs.payloads import TranscribeJob, UnpackJob

SRC = Path(__file__).resolve().parents[2] / "src"
TRANSCRIBE = "queue:transcribe"


def make_queue(client: redis.Redis, nonce: str = "aa", *, alive: bool = True) -> JobQueue:
    queue = JobQueue(client, WorkerName("host-1", 42, nonce))
    if alive:
        client.set(queue.worker.heartbeat_key, "{}", ex=60)
    return queue


def take(queue: JobQueue, queues: list[str]) -> Claim:
    claim = queue.claim(queues)
    assert claim is not None
    return claim


def begin_batch(client: redis.Redis, clips: list[str], *, dead: int = 0, done_before: int = 0) -> JobQueue:
    queue = make_queue(client)
    client.rpush(UNPACK, b"unpack-job")
    claim = take(queue, [UNPACK])
    jobs = [TranscribeJob(opus_path=Path("/s") / clip, batch_id="b1", original_filename=clip) for clip in clips]
    start = BatchStart(
        UnpackJob(batch_id="b1", s3_key="k"),
        jobs,
        done_before,
        {f"dead {number}": b"{}" for number in range(dead)},
        run="r1",
    )
    assert Batches(client).start(queue, claim, start, TRANSCRIBE) == "ok"
    return queue


def test_jobs_come_in_order_and_an_lpush_jumps_the_line(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"first", b"second")
    redis_db.lpush(UNPACK, b"urgent")
    assert [take(queue, [UNPACK]).payload for _ in range(3)] == [b"urgent", b"first", b"second"]
    assert queue.claim([UNPACK]) is None


def test_the_preferred_queue_is_served_first(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(TRANSCRIBE, b"anyone")
    redis_db.rpush(f"{TRANSCRIBE}:host-1", b"ours")
    both = [f"{TRANSCRIBE}:host-1", TRANSCRIBE]
    assert [take(queue, both).queue for _ in range(2)] == both


def test_a_claimed_job_stands_in_the_workers_own_list_until_it_is_settled(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"job")
    claim = take(queue, [UNPACK])
    assert redis_db.lrange("inflight:queue:unpack:host-1:42:aa", 0, -1) == [b"job"]
    assert queue.settle(claim) == "ok"
    assert redis_db.keys("inflight:*") == []


def test_a_second_acknowledgement_is_refused(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"job")
    claim = take(queue, [UNPACK])
    assert [queue.settle(claim), queue.settle(claim)] == ["ok", "lost"]


def test_a_dead_workers_jobs_go_back_in_order_and_its_late_settle_counts_nothing(redis_db):
    begin_batch(redis_db, ["a.mp3", "b.mp3"])
    dead, living = make_queue(redis_db, "dead"), make_queue(redis_db, "living")
    claims = [take(dead, [TRANSCRIBE]) for _ in range(2)]
    redis_db.delete(dead.worker.heartbeat_key)
    assert living.reap() == [("host-1:42:dead", TRANSCRIBE, 2)]
    assert redis_db.lrange(TRANSCRIBE, 0, -1) == [claim.payload for claim in claims]
    assert dead.settle(claims[0], clip=ClipRef("b1", "a.mp3")) == "lost"
    assert redis_db.get("batch:b1:processed") == b"0"
    again = take(living, [TRANSCRIBE])
    assert again.interruptions == 1
    assert living.settle(again, clip=ClipRef("b1", "a.mp3")) == "ok"
    assert redis_db.get("batch:b1:processed") == b"1"


def test_a_living_workers_jobs_are_left_alone(redis_db):
    busy, other = make_queue(redis_db, "busy"), make_queue(redis_db, "other")
    redis_db.rpush(UNPACK, b"job")
    take(busy, [UNPACK])
    assert other.reap() == []


def test_a_killed_process_leaves_its_job_to_be_found(services, redis_db):
    """The move is atomic: if the process dies right after it, the job is in the process's list."""
    redis_db.rpush(UNPACK, b"job")
    code = (
        "import os, redis\n"
        "from jobs.job_queue import JobQueue, WorkerName\n"
        f"client = redis.Redis({services.redis_host!r}, {services.redis_port}, 1, os.environ['REDIS_PASSWORD'])\n"
        "name = WorkerName.of_this_process('host-1')\n"
        "client.set(name.heartbeat_key, '{}')\n"
        "JobQueue(client, name).claim(['queue:unpack'])\n"
        "client.delete(name.heartbeat_key)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environ = {"PYTHONPATH": str(SRC), "REDIS_PASSWORD": services.redis_password}
    assert subprocess.run([sys.executable, "-c", code], env=environ, check=False).returncode == -9
    assert redis_db.llen(UNPACK) == 0
    assert [(queue, jobs) for _, queue, jobs in make_queue(redis_db).reap()] == [(UNPACK, 1)]
    assert redis_db.lrange(UNPACK, 0, -1) == [b"job"]


def test_a_failed_job_waits_its_time_and_remembers_its_attempts(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"job\nwith\nlines")
    claim = take(queue, [UNPACK])
    assert queue.retry_later(claim, 1000, failed=True)
    assert queue.promote_due() == 0
    member = redis_db.zrange("queue:delayed", 0, -1)[0]
    redis_db.zadd("queue:delayed", {member: 0})
    assert queue.promote_due() == 1
    again = take(queue, [UNPACK])
    assert (again.payload, again.failures) == (b"job\nwith\nlines", 1)
    queue.settle(again)
    assert redis_db.hlen("queue:attempts") == 0


def test_equal_jobs_that_wait_together_stay_two(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"same", b"same")
    for claim in [take(queue, [UNPACK]), take(queue, [UNPACK])]:
        queue.retry_later(claim, 0, failed=True)
    assert queue.promote_due() == 2


def test_handing_back_puts_the_job_first_and_spends_nothing(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"mine", b"next")
    take(queue, [UNPACK])
    assert queue.hand_back_all() == 1
    again = take(queue, [UNPACK])
    assert (again.payload, again.failures, again.interruptions) == (b"mine", 0, 0)


def test_a_claim_whose_answer_was_lost_is_returned_before_the_next_claim(redis_db):
    """Redis moved the job, but the worker did not get the answer: the job must not stay in the list for ever."""
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"job")
    redis_db.lmove(UNPACK, queue.inflight_key(UNPACK), "LEFT", "RIGHT")
    queue._uncertain = True
    assert take(queue, [UNPACK]).payload == b"job"
    assert redis_db.llen(queue.inflight_key(UNPACK)) == 1


def test_a_batch_begins_with_its_keys_jobs_and_acknowledgement_in_one_step(redis_db):
    begin_batch(redis_db, ["a.mp3", "b.mp3"], dead=1, done_before=4)
    values = {what: redis_db.get(f"batch:b1:{what}") for what in ("total", "processed", "failed", "s3_key")}
    assert values == {"total": b"7", "processed": b"4", "failed": b"1", "s3_key": b"k"}
    assert redis_db.smembers("batch:b1:pending") == {b"a.mp3", b"b.mp3"}
    assert [json.loads(job)["original_filename"] for job in redis_db.lrange(TRANSCRIBE, 0, -1)] == ["a.mp3", "b.mp3"]
    assert redis_db.llen(FAILED) == 1
    assert redis_db.keys("inflight:*") == []


def test_a_batch_under_way_is_not_begun_twice(redis_db):
    queue = begin_batch(redis_db, ["a.mp3"])
    redis_db.rpush(UNPACK, b"again")
    claim = take(queue, [UNPACK])
    start = BatchStart(UnpackJob(batch_id="b1", s3_key="k"), [], 0, {}, run="r2")
    assert Batches(redis_db).start(queue, claim, start, TRANSCRIBE) == "exists"
    assert redis_db.llen(TRANSCRIBE) == 1
    assert redis_db.keys("inflight:*") == []


def test_a_clip_counts_once_and_the_last_one_completes_the_batch(redis_db):
    queue = begin_batch(redis_db, ["a.mp3", "b.mp3"])
    redis_db.rpush(TRANSCRIBE, redis_db.lindex(TRANSCRIBE, 0))  # the first clip stands there twice
    outcomes = []
    for clip in ("a.mp3", "b.mp3", "a.mp3"):
        claim = take(queue, [TRANSCRIBE])
        outcomes.append(queue.settle(claim, clip=ClipRef("b1", clip)))
    assert outcomes == ["ok", "complete", "ok"]
    assert redis_db.get("batch:b1:processed") == b"2"
    assert Batches(redis_db).finishing() == ["b1"]


def test_a_batch_with_a_failed_clip_still_completes(redis_db):
    queue = begin_batch(redis_db, ["a.mp3", "b.mp3"])
    first, second = take(queue, [TRANSCRIBE]), take(queue, [TRANSCRIBE])
    assert queue.settle(first, clip=ClipRef("b1", "a.mp3"), dead_letter=b"{}") == "ok"
    assert queue.settle(second, clip=ClipRef("b1", "b.mp3")) == "complete"
    assert (redis_db.get("batch:b1:processed"), redis_db.get("batch:b1:failed")) == (b"1", b"1")


def test_a_batch_without_jobs_is_complete_at_once_and_its_keys_can_be_cleared(redis_db):
    begin_batch(redis_db, [], done_before=3)
    batches = Batches(redis_db)
    assert batches.finishing() == ["b1"]
    batches.clear("b1")
    batches.clear("b1")
    assert redis_db.keys("batch*") == []
    assert not redis_db.exists(FINISHING)


def test_scripts_survive_a_script_flush(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"job")
    redis_db.script_flush()
    assert take(queue, [UNPACK]).payload == b"job"


@pytest.mark.parametrize(
    ("payload", "field"), [(b'{"a": 1}', "payload"), ("né".encode(), "payload"), (b"\xff\x00", "payload_base64")]
)
def test_a_dead_letter_keeps_the_payload_byte_for_byte(payload, field):
    import base64

    letter = json.loads(
        dead_letters.write(Claim(UNPACK, payload, 2, 1), PermanentError("no use"), worker=WorkerName("h", 1, "n"))
    )
    kept = base64.b64decode(letter[field]) if field == "payload_base64" else letter[field].encode()
    assert kept == payload
    assert (letter["queue"], letter["error"], letter["error_class"]) == (UNPACK, "no use", "PermanentError")
    assert (letter["attempts"], letter["interruptions"], letter["worker"], letter["host"]) == (3, 1, "h:1:n", "h")


def test_a_hand_made_entry_among_delayed_jobs_becomes_a_dead_letter(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"job\nwith\nlines")
    queue.retry_later(take(queue, [UNPACK]), 0, failed=True)
    redis_db.zadd("queue:delayed", {b"by hand": 0})
    queue.promote_due()
    assert redis_db.lrange(UNPACK, 0, -1) == [b"job\nwith\nlines"]
    [letter] = [json.loads(raw) for raw in redis_db.lrange(FAILED, 0, -1)]
    assert (letter["payload"], letter["error_class"]) == ("by hand", "PayloadError")


def test_a_named_job_is_taken_from_behind_the_head_and_the_others_keep_their_places(redis_db):
    queue = make_queue(redis_db)
    redis_db.rpush(UNPACK, b"large", b"other", b"small", b"small")
    assert queue.first(UNPACK, 3) == [b"large", b"other", b"small"]
    claim = queue.claim([UNPACK], only=b"small")
    assert claim is not None
    assert claim.payload == b"small"
    assert redis_db.lrange(UNPACK, 0, -1) == [b"large", b"other", b"small"]
    assert redis_db.lrange("inflight:queue:unpack:host-1:42:aa", 0, -1) == [b"small"]
    assert queue.claim([UNPACK], only=b"gone") is None
