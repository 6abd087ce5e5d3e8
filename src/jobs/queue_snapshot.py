"""Every job that Redis holds, and where, at one moment: what reconciliation and repairs act on.

It costs Redis a pause (0.1 s for 100,000 jobs or so), so it is for what is done now and then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import cast

import redis

from config import TRANSCRIBE
from jobs.job_queue import DELAYED, INFLIGHT_KEY, mapped_redis_errors, script

MEMORY = "pipeline:memory"  # set once Redis agrees with Postgres; missing, Redis has lost everything, or is new
TRANSCRIBE_LISTS = f"{TRANSCRIBE}*"  # a pattern of Redis; the Lua scripts repeat it


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
        lists = cast("list[tuple[bytes, list[bytes]]]", script(client, "standing_jobs")())
    found: list[StandingJob] = []
    for name, members in lists:
        key = name.decode()
        if key == DELAYED:
            found += [_delayed(member) for member in members if member.count(b"\n") >= 2]  # no others are ours
        elif not key.startswith("inflight:"):
            found += [_in_list(key, key, member) for member in members]
        elif match := INFLIGHT_KEY.fullmatch(key):
            found += [_in_list(match[1], key, member) for member in members]
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


def _in_list(queue: str, key: str, payload: bytes) -> StandingJob:
    return StandingJob(queue, key, payload, payload, *read_batch_and_clip(payload))


def _delayed(member: bytes) -> StandingJob:
    queue, _, payload = member.split(b"\n", 2)
    return StandingJob(queue.decode(), DELAYED, member, payload, *read_batch_and_clip(payload))
