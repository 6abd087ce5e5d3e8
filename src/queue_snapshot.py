"""Every job that Redis holds, and where: what reconciliation and the retirement of hosts reason about.

The lists are read one after the other while workers work, so a job that moves may be seen twice or not at all. Whoever
acts on a snapshot takes two, some time apart, and believes only what both show.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import redis

from job_queue import DELAYED, INFLIGHT_KEY, UNPACK, mapped_redis_errors

TRANSCRIBE_LISTS = "queue:transcribe*"


@dataclass(frozen=True)
class StandingJob:
    """A job at its place."""

    queue: str  # the queue it belongs to
    key: str  # the list, or queue:delayed, that holds it
    member: bytes  # as it stands there
    payload: bytes
    batch_id: str | None  # None when the payload cannot be read
    clip: str | None

    @property
    def in_flight(self) -> bool:
        return self.key.startswith("inflight:")


def standing_jobs(client: redis.Redis) -> list[StandingJob]:
    """All jobs of `queue:unpack` and the transcribe queues: waiting, delayed or in flight."""
    with mapped_redis_errors():
        waiting = [UNPACK, *sorted(key.decode() for key in client.scan_iter(match=TRANSCRIBE_LISTS, count=1000))]
        in_flight = sorted(key.decode() for key in client.scan_iter(match="inflight:*", count=1000))
        # In a job's usual order, so that one that moves on while we read is rather seen twice than missed.
        found = [job for key in waiting for job in _in_list(client, key, key)]
        members = cast("list[bytes]", client.zrange(DELAYED, 0, -1))
        found += [_delayed(member) for member in members if member.count(b"\n") >= 2]  # no others are ours
        for key in in_flight:
            match = INFLIGHT_KEY.fullmatch(key)
            if match:
                found += _in_list(client, key, match[1])
    return found


def read_batch_and_clip(payload: bytes) -> tuple[str | None, str | None]:
    """What a payload says of itself, without judging it."""
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):  # a payload that nests too deeply is as unreadable as any other
        return None, None
    if not isinstance(fields, dict):
        return None, None
    batch_id, clip = fields.get("batch_id"), fields.get("original_filename")
    return batch_id if isinstance(batch_id, str) else None, clip if isinstance(clip, str) else None


def _in_list(client: redis.Redis, key: str, queue: str) -> Iterator[StandingJob]:
    for payload in cast("list[bytes]", client.lrange(key, 0, -1)):
        yield StandingJob(queue, key, payload, payload, *read_batch_and_clip(payload))


def _delayed(member: bytes) -> StandingJob:
    queue, _, payload = member.split(b"\n", 2)
    return StandingJob(queue.decode(), DELAYED, member, payload, *read_batch_and_clip(payload))
