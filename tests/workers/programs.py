"""Workers that are not started by the command of their unit: a module of the tests, or with a prefix.

Used as `with Program("tests.workers.patient_worker", env, log) as worker:`; killed at the end if it still runs.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import redis

from tests.workers.processes import WorkerProcess

PATIENT = "tests.workers.patient_worker"
STUB_GPU = "tests.reliability.stub_gpu_worker"
UNPACK = "workers.unpack_worker"


class Program(WorkerProcess):
    """`{prefix} python -m {module}` with only `env` in its environment, in its own session."""

    def __init__(self, module: str, env: Mapping[str, str], log: Path, prefix: Sequence[str] = ()) -> None:
        super().__init__(module, env, log, module, prefix)

    def stop(self) -> int:
        """SIGTERM -> the exit code."""
        self.send(signal.SIGTERM)
        return self.exit_code()


def heartbeat_key(client: redis.Redis, worker: WorkerProcess) -> bytes | None:
    """The worker's heartbeat in Redis, if it is there."""
    return next(iter(cast("list[bytes]", client.keys(f"worker:*:{worker.pid}:*"))), None)


def heartbeat_state(client: redis.Redis, worker: WorkerProcess) -> dict[str, Any]:
    """What the worker's heartbeat says; empty while there is none."""
    key = heartbeat_key(client, worker)
    text = client.get(key) if key else None
    return json.loads(text) if isinstance(text, bytes) else {}


def session_members(session: int) -> dict[int, str]:
    """Living processes of a session -> their command lines. A worker's children stay in its session."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:  # it ended meanwhile
            continue
        if int(its_session) == session and state not in "ZX":
            found[int(folder.name)] = command
    return found
