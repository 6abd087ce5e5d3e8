"""Draining: a worker, a host's workers, or all stop claiming until they are resumed.

Keys `drain:all`, `drain:host:{host}` and `drain:worker:{worker}` (string: who asked, and when). They outlive restarts,
so a host stays drained through a deploy; a worker's own goes with the worker's name.
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
    """Who wants this worker to claim nothing, or None."""
    with mapped_redis_errors():
        answers = cast("list[bytes | None]", client.mget(worker.drain_keys))
    return next((answer.decode("utf-8", "replace") for answer in answers if answer is not None), None)


def drains(client: redis.Redis) -> dict[str, str]:
    """Key -> who asked."""
    with mapped_redis_errors():
        keys = sorted(cast("list[bytes]", list(client.scan_iter(match="drain:*", count=1000))))
        return {key.decode(): cast("bytes", client.get(key) or b"").decode() for key in keys}
