"""A worker's heartbeat: a key in Redis that expires, and a small process that renews it.

While the key exists, nobody takes the worker's jobs. When the key has expired, `JobQueue.reap` on any host puts the
jobs back into their queues.

The renewing part is a process, not a thread. Native code that holds Python's lock for a minute (a model that loads, a
kernel that is compiled) would block a thread, and a living worker would lose its jobs. The process is forked before
anything is loaded, so it needs only a few megabytes. It renews the key only while the worker can run. A worker that is
stopped (SIGSTOP, a frozen container) sends no heartbeats, and this is intended. When the worker ends, their pipe closes
and the process deletes the key at once, so the jobs of a killed worker need not wait until the key expires. They wait
HEARTBEAT_TTL_S only if both processes or the host die together. systemd finds a worker that runs but hangs: see
`system/service_manager.py`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import select
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import redis

from config import Settings
from errors import PipelineError, ServiceUnavailableError
from jobs.job_queue import HOSTS_SEEN, WorkerName, mapped_redis_errors, script
from system.service_manager import notify
from utils import event, get_redis_client

log = logging.getLogger(__name__)

State = Literal["starting", "idle", "working", "waiting", "held", "draining"]  # waiting for room; held for a person
MAX_PROBLEMS = 10  # problems in one status, which must fit into the pipe
MAX_PROBLEM = 600  # characters of one problem
CHANGED_S = 0.5  # a new state is written after this time; clips that take less time cause no extra write
MAX_INTERVAL_S = 5.0  # between two writes: after this time, a lost key or a stopped worker is back
LOOK_S = 0.5  # pause between two checks whether the worker is stopped or runs again


class HeartbeatLostError(PipelineError):
    """The process that renews the heartbeat is gone; the worker must exit before other workers take its jobs."""


@dataclass
class Status:
    """The value of the heartbeat key, as JSON."""

    kind: str
    state: State = "starting"
    detail: str = ""  # the current job, or the reason why the worker is held
    since: str = ""  # time of the last change of state, UTC
    pid: int = 0
    started: str = ""  # UTC
    problems: tuple[str, ...] = ()  # need a person, although the worker continues


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class _Beat:
    """Writes the heartbeat key. Each process has its own instance with its own connection."""

    def __init__(self, settings: Settings, worker: WorkerName) -> None:
        self.ttl_s = settings.heartbeat_ttl_s
        self.client: redis.Redis = get_redis_client(settings)
        self._script = script(self.client, "heartbeat")
        self._worker = worker

    def __call__(self, status: str) -> None:
        with mapped_redis_errors():
            keys = [self._worker.heartbeat_key, HOSTS_SEEN]
            self._script(keys=keys, args=[status, int(self.ttl_s * 1000), self._worker.host])

    def end(self) -> None:
        with contextlib.suppress(redis.RedisError):  # the key expires by itself
            self.client.delete(self._worker.heartbeat_key)
        self.client.close()


class Heartbeat:
    """The worker's side of the heartbeat. Make it before any thread starts, because it forks."""

    def __init__(self, settings: Settings, worker: WorkerName, kind: str) -> None:
        self._beat = _Beat(settings, worker)
        self._status = Status(kind, since=_now(), pid=os.getpid(), started=_now())
        reading, self._pipe = os.pipe2(os.O_CLOEXEC)
        self._child = os.fork()
        if self._child == 0:
            _renewing_process(reading, self._pipe, _Beat(settings, worker), settings.scratch_root)
        os.close(reading)
        os.set_blocking(self._pipe, False)
        self._started = False

    def start(self) -> None:
        """Write the first heartbeat, before the first claim, and keep renewing it; raises ServiceUnavailableError."""
        self._beat(self._text())
        self._started = True
        self._tell()

    def set(self, state: State, detail: str = "") -> None:
        """Set the state, which the next heartbeat writes. `systemctl status` shows it at once."""
        if (state, detail) != (self._status.state, self._status.detail):
            self._status.state, self._status.detail, self._status.since = state, detail, _now()
            notify(f"STATUS={state} {detail}")
            if self._started:
                self._tell()

    def report(self, problems: Sequence[str]) -> None:
        """Set the problems that need a person although the worker continues; `audio-pipeline status` shows them."""
        shown = tuple(problem[:MAX_PROBLEM] for problem in problems[:MAX_PROBLEMS])
        if len(problems) > MAX_PROBLEMS:
            shown = (*shown, f"and {len(problems) - MAX_PROBLEMS} more; see the worker's log")
        if shown != self._status.problems:
            self._status.problems = shown
            if self._started:
                self._tell()

    def check(self) -> None:
        """Raises HeartbeatLostError when the renewing process has ended."""
        if os.waitpid(self._child, os.WNOHANG) != (0, 0):
            self._child = 0
            raise HeartbeatLostError("the process that renews the heartbeat is gone (killed? out of memory?)")

    def stop(self) -> None:
        if self._child:
            os.kill(self._child, signal.SIGKILL)  # SIGKILL, because it may be waiting for Redis
            os.waitpid(self._child, 0)
            os.close(self._pipe)
            self._child = 0
        self._beat.end()

    def _text(self) -> str:
        return json.dumps(asdict(self._status), ensure_ascii=False)

    def _tell(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # a lost status does no harm
            os.write(self._pipe, self._text().encode() + b"\n")


def _renewing_process(reading: int, writing: int, beat: _Beat, scratch_root: Path) -> None:
    """Run the renewing process; never returns."""
    try:
        os.close(writing)
        # Only the worker handles a signal to the whole control group; this process ends when the worker ends.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _renew(reading, beat, os.getppid(), scratch_root)
        beat.end()
    finally:
        os._exit(0)  # skip the worker's clean-up, which this process inherited


def _renew(reading: int, beat: _Beat, worker: int, scratch_root: Path) -> None:
    """Renew the heartbeat until the pipe closes, which means that the worker has ended."""
    status, shown, unread, interval_s, last = "", "", b"", min(beat.ttl_s / 4, MAX_INTERVAL_S), 0.0
    while True:
        if select.select([reading], [], [], min(LOOK_S, interval_s / 2))[0]:
            received = os.read(reading, 65536)
            if not received:
                return
            *lines, unread = (unread + received).split(b"\n")
            if lines:
                status = lines[-1].decode()
        due_s = interval_s if status == shown else min(interval_s, CHANGED_S)
        if status and time.monotonic() - last >= due_s and _runs(worker):
            try:
                beat(_with_resources(status, worker, scratch_root))
            except ServiceUnavailableError as error:
                event(log, logging.WARNING, "heartbeat could not be written", reason=error)
            shown, last = status, time.monotonic()


def _with_resources(status: str, pid: int, scratch_root: Path) -> str:
    """Add the worker's memory and the free space on scratch to the status, in bytes, or null if unknown."""
    try:
        memory: int | None = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        memory = None
    try:
        free: int | None = shutil.disk_usage(scratch_root).free
    except OSError:
        free = None
    return json.dumps({**json.loads(status), "memory_bytes": memory, "scratch_free_bytes": free}, ensure_ascii=False)


def _runs(pid: int) -> bool:
    """Whether a process can run: it is neither stopped nor dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "TtZX"
