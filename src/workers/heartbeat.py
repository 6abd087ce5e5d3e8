"""A worker's sign of life: a key in Redis that expires with it, renewed from a thread and a connection of its own.

While the key lives, nobody takes the worker's jobs; when it has expired, `JobQueue.reap` on any host hands them on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

import redis

from config import Settings
from errors import ServiceUnavailableError
from job_queue import WorkerName, mapped_redis_errors
from utils import event, get_redis_client

log = logging.getLogger(__name__)

State = Literal["starting", "idle", "working", "held", "draining"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class Status:
    """What the heartbeat says, as JSON."""

    kind: str
    state: State = "starting"
    detail: str = ""  # the job in work, or why the worker is held
    since: str = ""  # of this state, UTC


class Heartbeat:
    def __init__(self, settings: Settings, worker: WorkerName, kind: str) -> None:
        self._client: redis.Redis = get_redis_client(settings)
        self._key = worker.heartbeat_key
        self._ttl_s = settings.heartbeat_ttl_s
        self._status = Status(kind, since=_now())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Write the first beat before anything is claimed, then keep renewing; raises ServiceUnavailableError."""
        self._beat()
        self._thread.start()

    def set(self, state: State, detail: str = "") -> None:
        """Shown from the next beat on."""
        if (state, detail) != (self._status.state, self._status.detail):
            self._status = Status(self._status.kind, state, detail, _now())

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        with contextlib.suppress(redis.RedisError):  # it expires by itself; a stop must not fail over it
            self._client.delete(self._key)
        self._client.close()

    def _renew(self) -> None:
        while not self._stop.wait(self._ttl_s / 4):  # three beats may be missed before the worker counts as dead
            try:
                self._beat()
            except ServiceUnavailableError as error:
                event(log, logging.WARNING, "heartbeat missed", reason=error)

    def _beat(self) -> None:
        with mapped_redis_errors():
            self._client.set(self._key, json.dumps(asdict(self._status)), px=int(self._ttl_s * 1000))
