"""Whether Redis is set up to keep jobs: asked once, at a worker's start, with INFO, which every role may run."""

from __future__ import annotations

import time

import redis

from errors import OperatorError, ServiceUnavailableError
from jobs.job_queue import mapped_redis_errors

MIN_VERSION = (7, 0)  # scripts that may run while memory is full
MAX_SKEW_S = 60.0  # clocks that differ more make log lines and S3 signatures useless


def check_redis(client: redis.Redis) -> list[str]:
    """Reach Redis -> remarks on settings that cost safety; raises OperatorError for those that would lose jobs."""
    with mapped_redis_errors():
        server = client.info("server")
        memory = client.info("memory")
        persistence = client.info("persistence")
        seconds, _ = client.time()
    version = str(server.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_VERSION:
        raise OperatorError(f"Redis is version {version}, but {'.'.join(map(str, MIN_VERSION))} or newer is needed")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise OperatorError(
            f"Redis may throw jobs away when its memory is full (maxmemory-policy is {policy}); "
            "set it: CONFIG SET maxmemory-policy noeviction, and in redis.conf"
        )
    check_clock(seconds, "Redis")
    if not persistence.get("aof_enabled"):
        return ["a crash of Redis loses the last minutes; set appendonly yes (then reconciliation is needed less)"]
    return []


def check_room(client: redis.Redis) -> None:
    """Raises ServiceUnavailableError when Redis's memory is full.

    Before a claim that will add to it: the claim itself only moves a job and is allowed, so that the want of room for
    what the job brings would show after all the work.
    """
    with mapped_redis_errors():
        memory = client.info("memory")
    most, used = int(memory["maxmemory"]), int(memory["used_memory"])
    if 0 < most < used:
        raise ServiceUnavailableError(
            f"Redis is full ({used} bytes in use, maxmemory is {most}), so nothing can be added; raise maxmemory or "
            "let the queues drain"
        )


def check_clock(theirs: float, whose: str) -> None:
    """Raises OperatorError when this host's clock and a server's lie too far apart. `theirs` in Unix seconds."""
    skew_s = time.time() - theirs
    if abs(skew_s) > MAX_SKEW_S:
        raise OperatorError(
            f"this host's clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} that of {whose}; check "
            "time synchronisation (timedatectl) on both"
        )
