"""Draining: one worker, a host's workers or all workers stop claiming until they are resumed.

Keys `drain:all`, `drain:host:{host}` and `drain:worker:{worker}` (string: who asked, and when). A restart of a worker
does not remove them, so a host stays drained during a deploy. A restarted worker has a new name, so the drain of one
worker ends with its process.
"""

from __future__ import annotations

from typing import cast

import redis

from jobs.job_queue import WorkerName, mapped_redis_errors

ALL = "drain:all"


def host_key(host: str) -> str:
    return f"drain:host:{host}"


def worker_key(worker: str) -> str:
    return f"drain:worker:{worker}"


def drained_by(client: redis.Redis, worker: WorkerName) -> str | None:
    """Who drained this worker, or None when it may claim jobs."""
    with mapped_redis_errors():
        answers = cast("list[bytes | None]", client.mget(worker.drain_keys))
    return next((answer.decode("utf-8", "replace") for answer in answers if answer is not None), None)


def drains(client: redis.Redis) -> dict[str, str]:
    """All drain keys -> who asked, and when."""
    with mapped_redis_errors():
        keys = sorted(cast("list[bytes]", list(client.scan_iter(match="drain:*", count=1000))))
        return {key.decode(): cast("bytes", client.get(key) or b"").decode() for key in keys}
