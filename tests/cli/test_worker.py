"""`audio-pipeline worker`: the list of workers, drain and resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from commands.worker import activity, by_worker
from monitoring.overview import InFlight, WorkerState
from tests.workers.processes import wait_until
from tests.workers.programs import PATIENT, Program, heartbeat_key, heartbeat_state

QUEUE = "queue:patient"
JOB = json.dumps({"until": "gate"})


@pytest.fixture
def patient(settings_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start a worker whose job takes until Redis has the key `gate`; further settings by name."""
    with ExitStack() as stack:
        started: list[Program] = []

        def start(**more: str) -> Program:
            log = tmp_path / f"patient-{len(started)}.log"
            program = stack.enter_context(Program(PATIENT, {**settings_env, "HEARTBEAT_TTL_S": "10", **more}, log))
            started.append(program)
            program.wait_for("ready")
            return program

        yield start


def name_of(redis_db, program):
    wait_until(lambda: heartbeat_key(redis_db, program), "the worker's heartbeat")
    return (heartbeat_key(redis_db, program) or b"").decode().removeprefix("worker:")


def shows(redis_db, program, state):
    wait_until(lambda: heartbeat_state(redis_db, program).get("state") == state, f"the worker to be {state}")


def test_workers_are_listed_with_what_they_do(cli, patient, redis_db):
    assert cli("worker", "list").stdout == "No worker is alive.\n"
    assert json.loads(cli("worker", "list", "--json").stdout) == {"workers": [], "drains": {}}
    one = patient()
    name = name_of(redis_db, one)
    job = json.dumps({"until": "gate", "batch_id": "b[1]", "original_filename": "a :100: [red].mp3"})
    redis_db.rpush(QUEUE, job)
    shows(redis_db, one, "working")
    redis_db.set("drain:host:far", "ada@desk")

    found = json.loads(cli("worker", "list", "--json").stdout)
    [seen] = found["workers"]
    assert (seen["worker"], seen["host"], seen["kind"], seen["state"]) == (name, "test-host", "patient", "working")
    assert seen["detail"] == job
    assert 0 < seen["heartbeat_s"] <= 10
    assert seen["memory_bytes"] > 1e6
    assert seen["scratch_free_bytes"] > 1e6
    assert found["drains"] == {"drain:host:far": "ada@desk"}

    lines = cli("worker", "list").stdout.splitlines()
    assert lines[0].split() == ["WORKER", "KIND", "STATE", "SINCE", "HEARTBEAT", "MEMORY", "WHAT"]
    assert lines[1].split()[:3] == [name, "patient", "working"]
    assert lines[1].rstrip().endswith("b[1] a :100: [red].mp3")
    assert lines[2] == "drained: host:far, by ada@desk"


def test_one_worker_of_two_is_drained_and_claims_again_when_resumed(cli, patient, redis_db, actions):
    redis_db.set("gate", "open")
    one, other = patient(), patient()
    name = name_of(redis_db, one)
    done = cli("worker", "drain", "--worker", name)
    assert (done.returncode, done.stdout) == (0, f"worker:{name} is drained\n"), done.stderr
    states = {seen["worker"]: seen for seen in json.loads(cli("worker", "list", "--json").stdout)["workers"]}
    assert states[name]["state"] == "draining"
    assert states[name]["detail"].startswith("drained by ")
    assert states[name_of(redis_db, other)]["state"] == "idle"

    drained = cli("worker", "drain", "--all")
    assert drained.stdout == "all is drained\n"
    shows(redis_db, other, "draining")
    looks = redis_db.get("test:looks")
    redis_db.rpush(QUEUE, JOB)
    no = cli("worker", "resume", "--host", "test-host")
    assert no.returncode == 1
    assert no.stderr == f"host:test-host is not drained; drained now: all, worker:{name}\n"
    assert redis_db.get("test:looks") == looks, "drained workers do not even look"
    assert redis_db.llen(QUEUE) == 1

    assert cli("worker", "resume", "--all").stdout == "all claims again\n"
    wait_until(lambda: redis_db.llen(QUEUE) == 0, "the other worker to take the job")
    shows(redis_db, other, "idle")
    shows(redis_db, one, "draining")
    assert cli("worker", "resume", "--worker", name).returncode == 0
    shows(redis_db, one, "idle")
    assert actions() == [
        ("worker drain", f"worker:{name}", 1), ("worker drain", "all", 2),
        ("worker resume", "all", 1), ("worker resume", f"worker:{name}", 1),
    ]  # fmt: skip


def test_a_drained_host_stays_drained_through_a_restart(cli, patient, redis_db):
    redis_db.set("gate", "open")
    first = patient()
    assert cli("worker", "drain", "--host", "test-host").returncode == 0
    assert first.stop() == 0
    second, elsewhere = patient(), patient(WORKER_HOST="other-host")
    shows(redis_db, second, "draining")
    shows(redis_db, elsewhere, "idle")
    far = cli("worker", "drain", "--host", "typo", "--wait", "0")
    assert far.stdout == "host:typo claims nothing more; no such worker is alive now\n"


def test_a_drain_waits_for_the_work_in_hand(cli, begin, patient, redis_db):
    one = patient()
    redis_db.rpush(QUEUE, JOB, JOB)
    shows(redis_db, one, "working")
    name = name_of(redis_db, one)
    assert cli("worker", "drain", "--all", "--wait", "0").stdout == "all claims nothing more\n"
    late = cli("worker", "drain", "--host", "test-host", "--wait", "1")
    assert late.returncode == 1
    assert late.stderr == f"still working after 1 s: {name}; they claim no new job\n"

    waiting = begin("worker", "drain", "--worker", name)
    wait_until(lambda: redis_db.exists(f"drain:worker:{name}"), "the drain to begin")
    redis_db.set("gate", "open")
    assert waiting.wait(30) == 0
    assert redis_db.keys("inflight:*") == []
    assert redis_db.llen(QUEUE) == 1, "the second job was not begun"
    wait_until(lambda: heartbeat_state(redis_db, one)["state"] == "draining", "the worker to say so")


def test_what_is_to_be_drained_must_be_said_once(cli, redis_db):
    for words in (
        ["drain"], ["resume"], ["drain", "--all", "--host", "h"], ["drain", "--worker", "w", "--host", "h"],
        ["drain", "--host", ""], ["resume", "--worker", "", "--all"], ["drain", "--all", "--wait", "-1"],
    ):  # fmt: skip
        assert cli("worker", *words).returncode == 2, words
    nobody = cli("worker", "drain", "--worker", "test-host:1:x")
    assert nobody.returncode == 1
    assert nobody.stderr == ("no worker test-host:1:x is alive; audio-pipeline worker list shows those that are\n")
    nothing = cli("worker", "resume", "--all")
    assert nothing.returncode == 1
    assert nothing.stderr == "all is not drained; drained now: nothing\n"
    assert redis_db.keys() == []


def test_a_worker_with_many_jobs_shows_the_first_and_how_many_others_it_has():
    worker = WorkerState("h:1:n", "h", "gpu", "working", "3 clips in hand", "", 9.0, None, None)
    jobs = [InFlight("queue:transcribe", "h:1:n", "h", "b1", f"{clip}.mp3", "now") for clip in "abc"]
    in_hand = by_worker([*jobs, InFlight("queue:transcribe", "h:2:n", "h", "b2", "d.mp3", "now")])
    assert activity(worker, in_hand["h:1:n"]) == "b1 a.mp3 and 2 more"
    assert activity(worker, in_hand["h:2:n"]) == "b2 d.mp3"
    assert activity(worker, in_hand["h:3:n"]) == "3 clips in hand"
