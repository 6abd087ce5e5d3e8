"""What `transfer:taken` remembers, and for how long: an archive that is gone from the EC2 host needs no entry.

    transfer:taken   hash   {host}:{path}:{size}:{mtime} -> batch id      what was enqueued
    transfer:gone    zset   the same names, scored by the second at which the host no longer listed them

An entry goes when its archive has not been listed for `KEPT_S`. Whatever leaves a doubt keeps it, because an archive
without its entry is enqueued again. A look that failed, or that found nothing at all (a mount that is missing looks
so), counts for nothing. Entries of other hosts, of other directories and of names that TRANSFER_GLOB does not match
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
EVERY_S = 3600.0  # between looks for entries to forget


def forget_gone(
    client: redis.Redis, listed: Collection[bytes], prefix: bytes, pattern: str, *, now: float | None = None
) -> int:
    """Forget entries whose archives have long been gone, after a look that found `listed` -> how many.

    `listed` are the archives' names as in `transfer:taken`; `prefix` is `{host}:{directory}/`.
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
    """Whether a look at this directory would find the archive if it were there."""
    file = name.removeprefix(prefix).rsplit(b":", 2)[0]
    if not name.startswith(prefix) or b"/" in file:
        return False
    return fnmatch.fnmatchcase(file.decode(errors="surrogateescape"), pattern)
