"""The record of taken archives in Redis, and the removal of entries whose archives are gone from the EC2 host.

    transfer:taken   hash   {host}:{path}:{size}:{mtime} -> batch id      the archives that were enqueued
    transfer:gone    zset   the same names, scored by the time (in seconds) when the host stopped listing them

An entry is removed when its archive has not been listed for `KEPT_S`. In case of doubt the entry stays, because an
archive without an entry is enqueued again. A listing that failed, or that is empty, is ignored: a missing mount also
gives an empty listing. Entries of other hosts, of other directories and of names that TRANSFER_GLOB does not match
stay.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Collection
from typing import cast

import redis

from jobs.job_queue import mapped_redis_errors

TAKEN, GONE = "transfer:taken", "transfer:gone"
KEPT_S = 30 * 86_400.0
EVERY_S = 3600.0  # pause between two removals of old entries


def forget_gone(
    client: redis.Redis, listed: Collection[bytes], prefix: bytes, pattern: str, *, now: float | None = None
) -> int:
    """Remove the entries of archives that the host has not listed for `KEPT_S` -> the number of removed entries.

    `listed` are the names of all archives on the host now, as in `transfer:taken`; `prefix` is `{host}:{directory}/`.
    """
    if not listed:
        return 0
    now = time.time() if now is None else now
    here = set(listed)
    with mapped_redis_errors():
        taken = cast("list[bytes]", client.hkeys(TAKEN))
        gone = [name for name in taken if name not in here and _could_be_listed(name, prefix, pattern)]
        with client.pipeline(transaction=False) as pipe:
            pipe.zrem(GONE, *here)
            for name in gone:
                pipe.zadd(GONE, {name: now}, nx=True)
            pipe.zrangebyscore(GONE, "-inf", now - KEPT_S)
            old = set(cast("list[bytes]", pipe.execute()[-1])).intersection(gone)
        if old:
            with client.pipeline(transaction=False) as pipe:
                pipe.hdel(TAKEN, *old)
                pipe.zrem(GONE, *old)
                pipe.execute()
    return len(old)


def _could_be_listed(name: bytes, prefix: bytes, pattern: str) -> bool:
    """Whether a listing of this directory would contain the archive if it existed."""
    file = name.removeprefix(prefix).rsplit(b":", 2)[0]
    if not name.startswith(prefix) or b"/" in file:
        return False
    return fnmatch.fnmatchcase(file.decode(errors="surrogateescape"), pattern)
