"""The messages of a worker to systemd, and its behaviour when systemd stops it. The test acts as systemd."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.services.state import State
from local.services.valkey import Valkey
from tests.workers.conftest import tar, tone
from tests.workers.notify_socket import NotifySocket
from tests.workers.processes import wait_until
from tests.workers.programs import PATIENT, UNPACK, Program, heartbeat_key, session_members

PATIENT_QUEUE = "queue:patient"
GO = "test:go"
LONG_S = "300"  # no test lasts so long

StartProgram = Callable[..., Program]


@pytest.fixture
def manager() -> Iterator[NotifySocket]:
    with NotifySocket() as bound:
        yield bound


@pytest.fixture
def start(settings_env: dict[str, str], manager: NotifySocket, tmp_path: Path) -> Iterator[StartProgram]:
    """Start a worker as a unit of Type=notify: `start(UNPACK, S3_BUCKET="x")`."""
    with ExitStack() as stack:

        def started(module: str, **more: str) -> Program:
            env = {**settings_env, "NOTIFY_SOCKET": manager.address, "HEARTBEAT_TTL_S": LONG_S, **more}
            return stack.enter_context(Program(module, env, tmp_path / "worker.log"))

        yield started


@pytest.fixture
def private_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A separate server that is not started yet; its port and password are known."""
    server = Valkey(tmp_path / "private", State(tmp_path / "private"), durable=False)
    yield server
    server.stop()


def in_mid_conversion(start: StartProgram, put_archive: Callable[..., str], scratch: Path) -> Program:
    batch = put_archive(tar({f"{number:03}.wav": tone(10) for number in range(40)}))
    worker = start(UNPACK, CONVERT_PROCESSES="1")
    wait_until(lambda: list(scratch.glob(f"{batch}/*.opus")), "the first converted clip")
    return worker


def test_a_worker_is_ready_only_when_everything_it_needs_answers(start, manager, services, redis_db, settings_env):
    bucket = f"{settings_env['S3_BUCKET']}-later"
    worker = start(UNPACK, S3_BUCKET=bucket)
    manager.wait_for(f"STATUS=held S3 at {settings_env['S3_ENDPOINT']} has no bucket {bucket}")
    manager.wait_for("EXTEND_TIMEOUT_USEC=")
    assert "READY" not in manager.kinds()
    assert heartbeat_key(redis_db, worker) is None

    services.make_bucket(bucket)
    manager.wait_for("READY=1")
    assert heartbeat_key(redis_db, worker), "it is known to be alive before it is ready"
    manager.wait_for("STATUS=idle")
    assert manager.messages.count("READY=1") == 1
    assert worker.stop() == 0
    services.drop_bucket(bucket)


@pytest.mark.thorough
def test_a_worker_whose_redis_is_away_at_its_start_asks_for_time_until_it_is_there(start, manager, private_valkey):
    worker = start(UNPACK, REDIS_PORT=str(private_valkey.port), REDIS_PASSWORD=private_valkey.password)
    manager.wait_for("STATUS=held Redis cannot be reached")
    manager.wait_for("EXTEND_TIMEOUT_USEC=")
    manager.wait_for("WATCHDOG=1")
    assert "READY" not in manager.kinds()
    asked = next(message for message in manager.messages if message.startswith("EXTEND_TIMEOUT_USEC="))
    assert int(asked.partition("=")[2]) > 60_000_000, (
        "microseconds, and longer than the longest pause between two looks"
    )

    private_valkey.start()
    manager.wait_for("READY=1")
    assert worker.stop() == 0


def test_an_idle_worker_feeds_the_watchdog(start, manager):
    start(UNPACK)
    manager.wait_for("READY=1")
    wait_until(lambda: manager.since("STATUS=idle").count("WATCHDOG=1") >= 3, "the watchdog to be fed")


def test_a_working_worker_feeds_the_watchdog_as_its_work_moves_on(start, manager, put_archive):
    start(UNPACK, CONVERT_PROCESSES="1")
    manager.wait_for("READY=1")
    put_archive(tar({f"{number:03}.wav": tone(10) for number in range(40)}))
    manager.wait_for("STATUS=working")
    wait_until(lambda: "WATCHDOG=1" in manager.since("STATUS=working"), "the watchdog to be fed")
    assert not any(message.startswith("STATUS=idle") for message in manager.since("STATUS=working"))


def test_a_worker_that_hangs_does_not_feed_the_watchdog(start, manager, redis_db):
    hang_s = 4
    worker = start(PATIENT)
    manager.wait_for("READY=1")
    redis_db.rpush(PATIENT_QUEUE, json.dumps({"lock_s": hang_s}))
    manager.wait_for("STATUS=working")
    worker.wait_for("lock held")
    wait_until(lambda: any(said.startswith("STATUS=idle") for said in manager.since("STATUS=working")), "the job's end")
    after = manager.since("STATUS=working")
    hung = after[: next(number for number, said in enumerate(after) if said.startswith("STATUS=idle"))]
    assert hung.count("WATCHDOG=1") <= 1, "once, when it was over; a timer would have fed it once a second"


def test_sigterm_is_answered_with_stopping_and_a_clean_end(start, manager):
    worker = start(UNPACK)
    manager.wait_for("READY=1")
    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 0
    assert manager.messages.count("STOPPING=1") == 1
    assert "READY=1" not in manager.since("STOPPING=1")


def test_a_second_sigterm_ends_the_worker_at_once_and_its_job_is_back_in_the_queue(start, manager, redis_db):
    payload = json.dumps({"until": GO}).encode()
    worker = start(PATIENT, STOP_TIMEOUT_S=LONG_S)
    redis_db.rpush(PATIENT_QUEUE, payload, b"{}")
    manager.wait_for("STATUS=working")
    worker.send(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    assert worker.running, "it finishes the job in hand"
    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 0
    assert 'exiting at once reason="second SIGTERM" jobs_handed_back=1' in worker.text
    assert redis_db.lrange(PATIENT_QUEUE, 0, -1) == [payload, b"{}"]
    assert redis_db.keys("inflight:*") == []
    assert redis_db.hlen("queue:attempts") == redis_db.hlen("queue:interruptions") == 0
    wait_until(lambda: not redis_db.keys("worker:*"), "the heartbeat to go")


def test_a_worker_that_cannot_finish_in_time_leaves_and_its_job_is_back_in_the_queue(start, manager, redis_db):
    payload = json.dumps({"until": GO}).encode()
    worker = start(PATIENT, STOP_TIMEOUT_S="1")
    redis_db.rpush(PATIENT_QUEUE, payload)
    manager.wait_for("STATUS=working")
    assert worker.stop() == 0
    assert 'reason="STOP_TIMEOUT_S is over" jobs_handed_back=1' in worker.text
    assert redis_db.lrange(PATIENT_QUEUE, 0, -1) == [payload]
    assert redis_db.hlen("queue:attempts") == redis_db.hlen("queue:interruptions") == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.thorough
def test_no_child_outlives_a_worker_that_ends_in_mid_conversion(start, put_archive, settings, how):
    worker = in_mid_conversion(start, put_archive, settings.scratch_root)
    members = session_members(worker.pid)
    assert len(members) >= 4, f"the worker, its heartbeat, the fork server and a conversion: {members}"
    worker.send(how)
    worker.exit_code()
    wait_until(lambda: not session_members(worker.pid), "all its children to end")


def test_a_worker_without_a_service_manager_works_all_the_same(start, manager):
    worker = start(UNPACK, NOTIFY_SOCKET=f"{manager.address}-nobody")
    worker.wait_for("ready")
    assert worker.stop() == 0
    assert manager.messages == []
