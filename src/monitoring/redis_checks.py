"""Check that Redis is configured to keep jobs. Workers do this at their start, with INFO, which every role may run."""

from __future__ import annotations

import time

import redis

from errors import OperatorError, ServiceUnavailableError
from jobs.job_queue import mapped_redis_errors

MIN_VERSION = (7, 0)  # older versions run no script while memory is full
MAX_SKEW_S = 60.0  # with a larger difference of clocks, log times mislead and S3 rejects signatures


def check_redis(client: redis.Redis) -> list[str]:
    """Check Redis -> remarks on settings that reduce safety; raises OperatorError for settings that lose jobs."""
    with mapped_redis_errors():
        server = client.info("server")
        memory = client.info("memory")
        persistence = client.info("persistence")
        seconds, _ = client.time()
    version = str(server.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_VERSION:
        raise OperatorError(
            f"Redis is version {version}, but version {'.'.join(map(str, MIN_VERSION))} or newer is needed; upgrade it"
        )
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise OperatorError(
            f"Redis may delete jobs when its memory is full (maxmemory-policy is {policy}); run CONFIG SET "
            "maxmemory-policy noeviction, and set it in redis.conf"
        )
    check_clock(seconds, "Redis")
    if not persistence.get("aof_enabled"):
        return ["a crash of Redis loses the changes of the last minutes; set appendonly yes in redis.conf"]
    return []


def check_room(client: redis.Redis) -> None:
    """Raises ServiceUnavailableError when Redis's memory is full.

    Call it before a claim whose job adds data to Redis. The claim itself only moves a job, which a full Redis allows.
    Without this check, the lack of memory would be found only after all the work.
    """
    with mapped_redis_errors():
        memory = client.info("memory")
    most, used = int(memory["maxmemory"]), int(memory["used_memory"])
    if 0 < most < used:
        raise ServiceUnavailableError(
            f"Redis is full ({used} bytes in use, maxmemory is {most}), so nothing can be added; raise maxmemory or "
            "wait until the queues are shorter"
        )


def check_clock(theirs: float, whose: str) -> None:
    """Raises OperatorError when this host's clock differs too much from a server's, `theirs` (Unix seconds)."""
    skew_s = time.time() - theirs
    if abs(skew_s) > MAX_SKEW_S:
        raise OperatorError(
            f"this host's clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} that of {whose}; check "
            "time synchronisation (timedatectl) on both"
        )
