"""A model in Python of what Redis must hold after each step of the queue. It does not use the scripts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import redis

from jobs.job_queue import (
    ATTEMPTS,
    DELAYED,
    FAILED,
    FINISHING,
    HOSTS_SEEN,
    INFLIGHT_KEY,
    INTERRUPTIONS,
    UNPACK,
    ClipRef,
    WorkerName,
    counts_field,
)


@dataclass
class BatchModel:
    s3_key: str
    run: str
    total: int
    processed: int
    pending: set[str]
    given_up: set[str]


@dataclass
class QueueModel:
    """The place of a job is a list, named by its Redis key, or `delayed`."""

    lists: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    delayed: list[bytes] = field(default_factory=list)  # members
    due: list[bytes] = field(default_factory=list)  # those whose time has come, the longest due first
    attempts: Counter[str] = field(default_factory=Counter)
    interruptions: Counter[str] = field(default_factory=Counter)
    batches: dict[str, BatchModel] = field(default_factory=dict)
    finishing: set[str] = field(default_factory=set)
    alive: set[WorkerName] = field(default_factory=set)

    def content(self) -> dict[str, Any]:
        """The content in the form that `read_content` returns."""
        found: dict[str, Any] = {key: tuple(jobs) for key, jobs in self.lists.items() if jobs}
        found |= {worker.heartbeat_key: b"{}" for worker in self.alive}
        for key, counts in ((ATTEMPTS, self.attempts), (INTERRUPTIONS, self.interruptions)):
            found[key] = {name.encode(): str(count).encode() for name, count in counts.items()}
        found[DELAYED] = frozenset(self.delayed)
        found[FINISHING] = frozenset(batch_id.encode() for batch_id in self.finishing)
        for batch_id, batch in self.batches.items():
            found[f"batch:{batch_id}:total"] = str(batch.total).encode()
            found[f"batch:{batch_id}:processed"] = str(batch.processed).encode()
            found[f"batch:{batch_id}:failed"] = str(len(batch.given_up)).encode()
            found[f"batch:{batch_id}:s3_key"] = batch.s3_key.encode()
            found[f"batch:{batch_id}:run"] = batch.run.encode()
            found[f"batch:{batch_id}:pending"] = frozenset(clip.encode() for clip in batch.pending)
            found[f"batch:{batch_id}:given_up"] = frozenset(clip.encode() for clip in batch.given_up)
        return {key: value for key, value in found.items() if value}

    def claim(self, worker: WorkerName, queues: Sequence[str]) -> tuple[str, bytes, int, int] | None:
        """-> (queue, payload, failures, interruptions)."""
        if worker not in self.alive:
            return None
        for queue in queues:
            if self.lists[queue]:
                payload = self.lists[queue].pop(0)
                self.lists[inflight(worker, queue)].append(payload)
                name = counts_field(queue, payload)
                return queue, payload, self.attempts.get(name, 0), self.interruptions.get(name, 0)
        return None

    def settle(
        self, worker: WorkerName, queue: str, payload: bytes, clip: ClipRef | None, letter: bytes | None
    ) -> Literal["ok", "complete", "lost"]:
        if not self._let_go(worker, queue, payload):
            return "lost"
        self._forget_counts(queue, payload)
        if letter:
            self.lists[FAILED].append(letter)
        batch = self.batches.get(clip.batch_id) if clip else None
        if clip is None or batch is None or clip.clip not in batch.pending:
            return "ok"
        batch.pending.remove(clip.clip)
        if letter:
            batch.given_up.add(clip.clip)
        else:
            batch.processed += 1
        if batch.pending:
            return "ok"
        self.finishing.add(clip.batch_id)
        return "complete"

    def hand_back(self, worker: WorkerName, queue: str, payload: bytes) -> bool:
        if not self._let_go(worker, queue, payload):
            return False
        self.lists[queue].insert(0, payload)
        return True

    def put_off(self, worker: WorkerName, queue: str, payload: bytes, *, failed: bool) -> bool:
        """The caller adds the member that Redis made to `delayed`."""
        if not self._let_go(worker, queue, payload):
            return False
        if failed:
            self.attempts[counts_field(queue, payload)] += 1
        return True

    def promote(self) -> int:
        for member in self.due:
            queue, _, payload = member.split(b"\n", 2)
            self.lists[queue.decode()].append(payload)
            self.delayed.remove(member)
        promoted, self.due = len(self.due), []
        return promoted

    def reap(self, worker: WorkerName, queue: str) -> int:
        """All jobs of a dead worker from one queue go back to the head of this queue, in the old order."""
        payloads = self.lists.pop(inflight(worker, queue), [])
        self.lists[queue][:0] = payloads
        self.interruptions.update(counts_field(queue, payload) for payload in payloads)
        return len(payloads)

    def start(
        self,
        worker: WorkerName,
        payload: bytes,
        batch_id: str,
        batch: BatchModel,
        jobs: Sequence[bytes],
        letters: Mapping[str, bytes],
        transcribe_queue: str,
    ) -> Literal["ok", "exists", "lost"]:
        under_way = self.batches.get(batch_id)
        if under_way and under_way.run == batch.run:
            return "ok"
        if not self._let_go(worker, UNPACK, payload):
            return "lost"
        self._forget_counts(UNPACK, payload)
        if under_way:
            return "exists"
        self.batches[batch_id] = batch
        self.lists[transcribe_queue] += jobs
        self.lists[FAILED] += letters.values()
        if not jobs:
            self.finishing.add(batch_id)
        return "ok"

    def clear(self, batch_id: str) -> bool:
        if batch_id not in self.finishing:
            return False
        self.finishing.remove(batch_id)
        del self.batches[batch_id]
        return True

    def restart(self, batch_id: str, unpack_job: bytes, about: Mapping[bytes, str]) -> int:
        """Remove the jobs of a batch -> how many were removed. `about` returns the batch of a payload."""
        self.finishing.discard(batch_id)
        self.batches.pop(batch_id, None)
        removed = 0
        for key in [key for key in self.lists if key != FAILED]:
            stale = [payload for payload in self.lists[key] if about.get(payload) == batch_id]
            self.lists[key] = [payload for payload in self.lists[key] if about.get(payload) != batch_id]
            in_flight = INFLIGHT_KEY.fullmatch(key)
            queue = in_flight[1] if in_flight else key
            for payload in stale:
                self._forget_counts(queue, payload)
            removed += len(stale)
        for member in list(self.delayed):
            name, _, payload = member.split(b"\n", 2)
            if about.get(payload) == batch_id:
                self.delayed.remove(member)
                self.due = [other for other in self.due if other != member]
                self._forget_counts(name.decode(), payload)
                removed += 1
        self.lists[UNPACK].append(unpack_job)
        return removed

    def reopen(self, batch_id: str, clip: str) -> None:
        """Note that a dead letter of the clip was retried."""
        batch = self.batches.get(batch_id)
        if batch and batch_id not in self.finishing and clip in batch.given_up:
            batch.given_up.remove(clip)
            batch.pending.add(clip)

    def _let_go(self, worker: WorkerName, queue: str, payload: bytes) -> bool:
        held = self.lists[inflight(worker, queue)]
        if payload in held:
            held.remove(payload)
            return True
        return False

    def _forget_counts(self, queue: str, payload: bytes) -> None:
        for counts in (self.attempts, self.interruptions):
            counts.pop(counts_field(queue, payload), None)


def inflight(worker: WorkerName, queue: str) -> str:
    return f"inflight:{queue}:{worker}"


def read_content(client: redis.Redis) -> dict[str, Any]:
    """Read everything in Redis except the times of the hosts' last signs of life."""
    keys = [key for key in cast("list[bytes]", client.keys()) if key != HOSTS_SEEN.encode()]
    types, values = client.pipeline(transaction=False), client.pipeline(transaction=False)
    for key in keys:
        types.type(key)
    kinds = types.execute()
    for key, kind in zip(keys, kinds, strict=True):
        if kind == b"list":
            values.lrange(key, 0, -1)
        elif kind == b"zset":
            values.zrange(key, 0, -1)
        else:
            {b"string": values.get, b"set": values.smembers, b"hash": values.hgetall}[kind](key)
    freeze: dict[bytes, Callable[[Any], Any]] = {b"list": tuple, b"zset": frozenset, b"set": frozenset}
    found = zip(keys, kinds, values.execute(), strict=True)
    return {key.decode(): freeze.get(kind, lambda value: value)(value) for key, kind, value in found}
