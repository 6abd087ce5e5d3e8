"""The heartbeat of a worker: it lasts as long as the worker, and ends with it."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
import redis

from jobs.job_queue import JobQueue, WorkerName
from tests.workers.processes import wait_until
from tests.workers.programs import PATIENT, Program, heartbeat_key, heartbeat_state, session_members

QUEUE = "queue:patient"
SHORT_TTL_S, LONG_TTL_S = 2, 120  # no test lasts 120 s: what goes earlier does not go by expiry
GO = "test:go"

StartPatient = Callable[[int], Program]


@pytest.fixture
def patient(settings_env: dict[str, str], tmp_path: Path) -> Iterator[StartPatient]:
    """Start a patient worker whose heartbeat lives this many seconds, and wait until it is ready."""
    with ExitStack() as stack:

        def start(ttl_s: int) -> Program:
            env = {**settings_env, "HEARTBEAT_TTL_S": str(ttl_s)}
            worker = stack.enter_context(Program(PATIENT, env, tmp_path / "patient.log"))
            worker.wait_for("ready")
            return worker

        yield start


@pytest.fixture
def other(redis_db: redis.Redis) -> JobQueue:
    """A living worker that may reap."""
    queue = JobQueue(redis_db, WorkerName("other-host", 1, "aa"))
    redis_db.set(queue.worker.heartbeat_key, "{}", ex=LONG_TTL_S)
    return queue


def job(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def take_up(client: redis.Redis, worker: Program, payload: bytes) -> None:
    """Give the worker a job and wait until it has it."""
    client.rpush(QUEUE, payload)
    wait_until(lambda: inflight(client, worker) == [payload], "the job to be claimed")


def inflight(client: redis.Redis, worker: Program) -> list[bytes]:
    [key] = client.keys(f"inflight:{QUEUE}:*:{worker.pid}:*") or [b"none"]
    return cast("list[bytes]", client.lrange(key, 0, -1))


def renewing_process(worker: Program) -> int:
    """The worker's only child process, which renews the heartbeat."""
    [child] = session_members(worker.pid).keys() - {worker.pid}
    return child


def looks(client: redis.Redis) -> int:
    return int(client.get("test:looks") or 0)


def test_a_worker_that_holds_pythons_lock_beyond_its_ttl_keeps_heartbeat_and_job(patient, redis_db, other):
    worker = patient(SHORT_TTL_S)
    take_up(redis_db, worker, job(lock_s=4 * SHORT_TTL_S))
    reaped, missing = [], 0

    def over() -> bool:
        nonlocal missing
        reaped.extend(other.reap())
        missing += heartbeat_key(redis_db, worker) is None
        return "lock held" in worker.text

    wait_until(over, "the lock to be let go")
    found = re.search(r"turns_of_others=(\d+)", worker.text)
    assert found, worker.text
    assert int(found[1]) <= 1, "no other thread got a turn, so a thread could not have renewed it"
    assert (reaped, missing) == ([], 0)
    wait_until(lambda: not inflight(redis_db, worker), "the acknowledgement")
    assert "no longer belongs to this worker" not in worker.text


def test_a_paused_workers_job_is_handed_on_and_what_it_does_later_counts_nothing(patient, redis_db, other):
    worker = patient(SHORT_TTL_S)
    payload = job(until=GO)
    take_up(redis_db, worker, payload)
    worker.send(signal.SIGSTOP)
    wait_until(lambda: not heartbeat_key(redis_db, worker), "the heartbeat to expire")
    assert [(queue, jobs) for _, queue, jobs in other.reap()] == [(QUEUE, 1)]
    taken = other.claim([QUEUE])
    assert taken is not None
    assert (taken.payload, taken.interruptions) == (payload, 1)

    redis_db.set(GO, 1)
    worker.send(signal.SIGCONT)
    worker.wait_for("no longer belongs to this worker")
    wait_until(lambda: heartbeat_key(redis_db, worker), "the heartbeat to come back")
    assert redis_db.lrange(other.inflight_key(QUEUE), 0, -1) == [payload], "its late acknowledgement took nothing away"
    redis_db.rpush(QUEUE, job(until=GO, number=2))
    wait_until(lambda: redis_db.llen(QUEUE) == 0, "the worker to go on with the next job")
    assert worker.running


def test_a_killed_workers_heartbeat_goes_long_before_it_would_expire(patient, redis_db, other):
    worker = patient(LONG_TTL_S)
    payload = job(until=GO)
    take_up(redis_db, worker, payload)
    key = heartbeat_key(redis_db, worker)
    assert key
    left_s = redis_db.ttl(key)  # read before the kill, after which the key may be gone at once
    worker.send(signal.SIGKILL)
    assert left_s > LONG_TTL_S / 2, "it was far from expiring"
    wait_until(lambda: not redis_db.exists(key), "the heartbeat to go", within_s=left_s / 2)
    assert [(queue, jobs) for _, queue, jobs in other.reap()] == [(QUEUE, 1)]
    assert redis_db.lrange(QUEUE, 0, -1) == [payload]
    wait_until(lambda: not session_members(worker.pid), "the renewing process to end, too")


def test_a_worker_that_is_told_to_stop_takes_its_heartbeat_with_it(patient, redis_db):
    worker = patient(LONG_TTL_S)
    assert worker.stop() == 0
    assert redis_db.keys("worker:*") == []
    assert session_members(worker.pid) == {}


def test_an_idle_worker_whose_renewing_process_is_killed_leaves_to_be_started_again(patient, redis_db):
    worker = patient(LONG_TTL_S)
    os.kill(renewing_process(worker), signal.SIGKILL)
    assert worker.exit_code() == 1
    assert "the process that renews the heartbeat is gone" in worker.text
    assert redis_db.keys("worker:*") == []


@pytest.mark.thorough
def test_a_job_is_handed_on_when_the_process_that_renews_the_heartbeat_is_killed(patient, redis_db, other):
    worker = patient(SHORT_TTL_S)
    payload, second = job(until=GO), job(until=GO, number=2)
    take_up(redis_db, worker, payload)
    os.kill(renewing_process(worker), signal.SIGKILL)
    wait_until(lambda: not heartbeat_key(redis_db, worker), "the heartbeat to expire")
    assert [(queue, jobs) for _, queue, jobs in other.reap()] == [(QUEUE, 1)]
    assert (taken := other.claim([QUEUE])) is not None
    assert taken.payload == payload

    redis_db.rpush(QUEUE, second)
    redis_db.set(GO, 1)
    assert worker.exit_code() == 1
    assert "no longer belongs to this worker" in worker.text
    assert redis_db.lrange(QUEUE, 0, -1) == [second]
    assert other.settle(taken) == "ok"


def test_a_worker_without_heartbeat_claims_nothing_and_goes_on_once_it_is_back(patient, redis_db):
    worker = patient(LONG_TTL_S)
    renewing = renewing_process(worker)
    os.kill(renewing, signal.SIGSTOP)  # so that the key stays away for as long as we look
    redis_db.flushdb()
    payload = job(until=GO)
    redis_db.rpush(QUEUE, payload)
    wait_until(lambda: looks(redis_db) > 5, "the worker to look for jobs")
    assert redis_db.lrange(QUEUE, 0, -1) == [payload]
    assert redis_db.keys("inflight:*") == []

    os.kill(renewing, signal.SIGCONT)
    wait_until(lambda: inflight(redis_db, worker) == [payload], "the worker to take the job")
    assert heartbeat_key(redis_db, worker)
    assert "held" not in worker.text, "nobody had to do anything"


def test_the_heartbeat_says_what_the_worker_does(patient, redis_db):
    worker = patient(SHORT_TTL_S)
    wait_until(lambda: heartbeat_state(redis_db, worker).get("state") == "idle", "the state of an idle worker")
    take_up(redis_db, worker, job(until=GO))
    wait_until(lambda: heartbeat_state(redis_db, worker).get("state") == "working", "the state of a working one")
    said = heartbeat_state(redis_db, worker)
    assert (said["kind"], said["pid"], said["detail"]) == ("patient", worker.pid, job(until=GO).decode())
    worker.send(signal.SIGTERM)
    wait_until(lambda: heartbeat_state(redis_db, worker).get("state") == "draining", "the state of a stopping one")
