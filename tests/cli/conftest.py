"""Operators' commands, against the real services: most in this process, some as programs of their own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.cli import in_process
from tests.cli.in_process import Ran
from tests.workers.conftest import empty_tables, put_archive, store, worker  # noqa: F401 -- fixtures
from tests.workers.processes import wait_until
from tests.workers.programs import STUB_GPU, Program

ROOT = Path(__file__).resolve().parents[2]
CLI = (sys.executable, str(ROOT / "src/cli.py"))
FAILED = "queue:failed"

Cli = Callable[..., Ran]
Rows = list[tuple[Any, ...]]


@pytest.fixture
def cli_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings_env}


@pytest.fixture
def cli(cli_env: dict[str, str]) -> Cli:
    """Run `audio-pipeline` in this process: `cli("status", "--json")`; further settings by name.

    With `answer`, standard input is a terminal on which this text is typed.
    """

    def run(*arguments: str, answer: str | None = None, **more: str) -> Ran:
        return in_process.run(arguments, {**cli_env, **more}, answer)

    return run


@pytest.fixture
def program(cli_env: dict[str, str]) -> Cli:
    """Run `audio-pipeline` as an operator does, as a process of its own; further settings by name."""

    def run(*arguments: str, **more: str) -> Ran:
        done = subprocess.run(
            [*CLI, *arguments],
            env={**cli_env, **more}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def begin(cli_env: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the program and do not wait for it; it is killed at the end if it still runs."""
    with ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [*CLI, *arguments],
                env=cli_env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def begin_asking(cli_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Callable[[str], str]]]:
    """Start the program at a terminal and wait for its question -> a function that answers and returns the output."""
    with ExitStack() as stack:

        def start(*arguments: str) -> Callable[[str], str]:
            master, slave = pty.openpty()
            stack.callback(os.close, master)
            log = tmp_path / "asking.log"
            with log.open("wb") as file:
                process = subprocess.Popen([*CLI, *arguments], env=cli_env, stdin=slave, stdout=file, stderr=file)
            os.close(slave)
            stack.callback(process.wait)
            stack.callback(process.kill)
            wait_until(lambda: "[y/N]" in log.read_text() or process.poll() is not None, "the question")

            def answer(word: str) -> str:
                os.write(master, f"{word}\n".encode())
                assert process.wait(60) == 0, log.read_text()
                return log.read_text()

            return answer

        yield start


@pytest.fixture
def gpu(settings_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start a GPU worker with stub models; further settings by name."""
    with ExitStack() as stack:

        def start(**more: str) -> Program:
            env = {**settings_env, "RETRY_BASE_S": "0.1", "HEARTBEAT_TTL_S": "5", **more}
            return stack.enter_context(Program(STUB_GPU, env, tmp_path / "gpu.log"))

        yield start


@pytest.fixture
def actions(query: Any) -> Callable[[], Rows]:
    """The changes in the audit table that have ended: (action, subject, affected)."""
    return lambda: query(
        "SELECT action, subject, affected FROM operator_actions WHERE affected IS NOT NULL ORDER BY action_id"
    )


@pytest.fixture
def add(query: Any) -> Callable[..., Any]:
    """Put a row into a table: `add("batches", batch_id="b1", completed_at=ago(60))` -> its first column."""

    def insert(table: str, **columns: object) -> Any:
        names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
        [row] = query(f"INSERT INTO {table} ({names}) VALUES ({places}) RETURNING *", *columns.values())
        return row[0]

    return insert


@pytest.fixture
def put(store: Any) -> Callable[..., str]:  # noqa: F811
    """Put an object into S3 -> its key."""

    def put_object(key: str, content: bytes = b"x") -> str:
        store.client.put_object(Bucket=store.bucket, Key=key, Body=content)
        return key

    return put_object


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def jobs(client: redis.Redis, queue: str = "queue:unpack") -> list[dict[str, Any]]:
    """The jobs that wait in a queue."""
    found: Any = client.lrange(queue, 0, -1)
    return [json.loads(payload) for payload in found]


def kept(client: redis.Redis) -> dict[bytes, Any]:
    """Everything in Redis, to compare with later, except leases, which expire meanwhile."""
    keys: Any = client.keys()
    return {key: client.dump(key) for key in keys if not key.startswith(b"lease:")}


def letter(number: int, **more: Any) -> bytes:
    """A dead letter of the unpack worker."""
    fields = {
        "queue": "queue:unpack",
        "payload": json.dumps({"batch_id": f"b{number}", "s3_key": f"archives/b{number}.tar"}),
        "error_class": "ArchiveError",
        "error": f"archives/b{number}.tar is damaged at member {number}",
        "permanent": True, "attempts": 1, "interruptions": 0, "batch_id": None, "clip": None, "parked_s3_key": None,
        "worker": "h:1:n", "host": "h", "failed_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return json.dumps({**fields, **more}).encode()


def clip_letter(number: int, batch: str = "b1", **more: Any) -> bytes:
    """A dead letter of the GPU worker, whose clip is parked in S3."""
    job = {
        "batch_id": batch,
        "opus_path": f"/data/scratch/{batch}/{number:05d}.opus",
        "original_filename": f"clip {number}.mp3",
    }
    fields = {
        "queue": "queue:transcribe:lost-host", "payload": json.dumps(job), "error_class": "AudioError",
        "error": f"clip {number}.mp3 holds no audio", "batch_id": batch, "clip": f"clip {number}.mp3",
        "parked_s3_key": f"failed/{batch}/{number:05d}.opus",
    }  # fmt: skip
    return letter(number, **{**fields, **more})
