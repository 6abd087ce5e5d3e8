"""`audio-pipeline worker probe`: the test of a host, after which a deploy continues with the next host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.workers.processes import wait_until
from tests.workers.programs import STUB_GPU, UNPACK, Program

Start = Callable[..., Program]


@pytest.fixture
def start(settings_env: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start a program as a worker of test-host and wait until it is ready."""
    with ExitStack() as stack:

        def run(module: str, **more: str) -> Program:
            env = {**settings_env, "HEARTBEAT_TTL_S": "10", **more}
            program = stack.enter_context(Program(module, env, tmp_path / f"{module}.log"))
            program.wait_for("ready")
            return program

        yield run


def probe(cli, *more: str):
    return cli("worker", "probe", "--host", "test-host", *more)


def nothing_left(redis_db, query) -> bool:
    rows = query("SELECT count(*) FROM audio_files")
    return rows == [(0,)] and not redis_db.keys("queue:*") and not redis_db.keys("inflight:*")


def test_a_host_whose_workers_work_answers_and_keeps_nothing(cli, start, redis_db, query):
    start(STUB_GPU)
    start(UNPACK)
    done = probe(cli, "--kind", "gpu", "--kind", "unpack")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("test-host: gpu, unpack alive and claiming jobs; the probe was answered in ")
    assert "transcript: 'a tone of " in done.stdout
    assert nothing_left(redis_db, query)


def test_a_worker_that_is_not_there_is_named(cli, start):
    start(UNPACK)
    done = probe(cli, "--kind", "gpu", "--kind", "unpack", "--wait", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("test-host: no gpu worker is alive there; see ")
    alone = probe(cli)
    assert (alone.returncode, alone.stdout) == (0, "test-host: unpack alive and claiming jobs\n")


@pytest.mark.thorough
def test_a_worker_that_is_held_is_no_healthy_one(cli, start):
    worker = start(UNPACK)
    cli("worker", "drain", "--host", "test-host")
    done = probe(cli, "--wait", "1")
    assert done.returncode == 1
    assert "unpack is draining: drained by " in done.stderr
    assert worker.stop() == 0


def test_a_probe_that_nobody_answers_is_taken_back(cli, start, redis_db, query, tmp_path):
    gate = tmp_path / "gate"
    worker = start(STUB_GPU, STUB_WAITS_FOR=str(gate))
    first = probe(cli, "--kind", "gpu", "--wait", "2")
    assert first.returncode == 1
    assert "no answer to the probe" in first.stderr
    second = probe(cli, "--kind", "gpu", "--wait", "2")
    assert second.returncode == 1, "the worker is busy with the first"
    assert redis_db.llen("queue:transcribe:test-host") == 0
    gate.touch()
    wait_until(lambda: "probe answered" in worker.text, "the first probe to end")
    assert nothing_left(redis_db, query)


@pytest.mark.thorough
def test_an_engine_that_fails_is_the_answer_and_no_dead_letter(cli, start, redis_db, query):
    start(STUB_GPU, STUB_FAILS="out of memory")
    done = probe(cli, "--kind", "gpu")
    assert done.returncode == 1
    assert "the probe failed: RuntimeError: out of memory; see journalctl -u gpu-worker there" in done.stderr
    assert nothing_left(redis_db, query)
