"""What is going on, gathered once for people and machines: queues, batches, workers, hosts, failures.

Each part is asked for by itself, so that a service that is down costs its own part only; `down` says which, and why.
Depths and counts come from Redis, ages and rates from Postgres, S3 is only asked whether it answers.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar, cast

import redis

from batches import Batches
from db_overview import Activity, DatabaseOverview
from dead_letters import DeadLetter, DeadLetters
from errors import OperatorError, PayloadError
from job_queue import DELAYED, FAILED, HOSTS_SEEN, INFLIGHT_KEY, UNPACK, mapped_redis_errors
from queue_snapshot import TRANSCRIBE_LISTS, read_batch_and_clip
from s3_utils import ObjectStore

SILENT_S = 90.0  # a host heard of longer ago is shown as silent
_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*|[0-9][0-9a-f.,:-]*")

Found = TypeVar("Found")


@dataclass
class Queue:
    name: str
    depth: int
    oldest_s: float | None  # age of the job that is next; None when nothing tells it


@dataclass
class InFlight:
    queue: str
    worker: str
    host: str
    batch_id: str | None
    clip: str | None
    since: str | None


@dataclass
class BatchUnderWay:
    batch_id: str
    total: int
    done: int
    failed: int
    in_flight: int
    waiting: int
    eta_s: tuple[float, float] | None  # soonest and latest, at the pace of the last minutes


@dataclass
class WorkerState:
    worker: str
    host: str
    kind: str
    state: str
    detail: str
    since: str
    heartbeat_s: float  # until it expires
    memory_bytes: int | None


@dataclass
class Host:
    host: str
    heard_s: float  # ago
    workers: int
    scratch_free_bytes: int | None


@dataclass
class FailureGroup:
    stage: str
    cause: str
    count: int
    example: str


@dataclass
class Overview:
    down: dict[str, str] = field(default_factory=dict)  # service -> why
    queues: list[Queue] = field(default_factory=list)
    in_flight: list[InFlight] = field(default_factory=list)
    delayed: int = 0
    batches: list[BatchUnderWay] = field(default_factory=list)
    workers: list[WorkerState] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    failures: list[FailureGroup] = field(default_factory=list)
    activity: Activity | None = None

    @property
    def needs_a_person(self) -> list[str]:
        """Why somebody should look; empty when all is well."""
        reasons = [f"{service} is down: {why}" for service, why in self.down.items()]
        reasons += [f"{worker.kind} worker {worker.worker} is held: {worker.detail}" for worker in self.held]
        failed = sum(group.count for group in self.failures)
        if failed:
            reasons.append(f"{failed} dead letters wait for a decision")
        kinds = {worker.kind for worker in self.workers}
        if "Redis" not in self.down:
            waiting = {queue.name: queue.depth for queue in self.queues}
            if waiting.get(UNPACK) and "unpack" not in kinds:
                reasons.append("archives wait, but no unpack worker is alive")
            if any(depth for name, depth in waiting.items() if name != UNPACK) and "gpu" not in kinds:
                reasons.append("clips wait, but no GPU worker is alive")
        reasons += [f"host {host.host} has been silent for {host.heard_s:.0f} s" for host in self.silent]
        return reasons

    @property
    def held(self) -> list[WorkerState]:
        return [worker for worker in self.workers if worker.state == "held" and worker.detail]

    @property
    def silent(self) -> list[Host]:
        return [host for host in self.hosts if not host.workers and host.heard_s > SILENT_S]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "needs_a_person": self.needs_a_person}


class Gatherer:
    def __init__(self, client: redis.Redis, database: DatabaseOverview, s3: ObjectStore, letters: DeadLetters) -> None:
        self._client = client
        self._database = database
        self._s3 = s3
        self._letters = letters
        self._batches = Batches(client)
        self._scratch_free: dict[str, int | None] = {}  # by host, as its workers' heartbeats say

    def gather(self) -> Overview:
        found = Overview()
        found.activity = self._part(found, "Postgres", self._database.activity, None)
        self._part(found, "S3", self._s3.check, None)
        self._part(found, "Redis", lambda: self._from_redis(found), None)
        return found

    def _part(self, found: Overview, service: str, ask: Callable[[], Found], otherwise: Found) -> Found:
        try:
            return ask()
        except OperatorError as error:
            found.down[service] = str(error)
            return otherwise

    def _from_redis(self, found: Overview) -> None:
        with mapped_redis_errors():
            found.workers = self._workers()
            found.in_flight = self._in_flight(found.workers)
            found.queues = self._queues(found)
            found.delayed = self._client.zcard(DELAYED)
            found.batches = self._under_way(found)
            found.hosts = self._hosts(found.workers)
        found.failures = self._failures()

    def _workers(self) -> list[WorkerState]:
        workers = []
        for key in sorted(self._keys("worker:*")):
            raw, left = cast("bytes | None", self._client.get(key)), self._client.pttl(key)
            if raw is None:  # it expired between two questions
                continue
            state = json.loads(raw)
            name = key.removeprefix("worker:")
            workers.append(
                WorkerState(
                    worker=name,
                    host=name.rsplit(":", 2)[0],
                    kind=state["kind"],
                    state=state["state"],
                    detail=state["detail"],
                    since=state["since"],
                    heartbeat_s=left / 1000,
                    memory_bytes=state.get("memory_bytes"),
                )
            )
            self._scratch_free[workers[-1].host] = state.get("scratch_free_bytes")
        return workers

    def _in_flight(self, workers: list[WorkerState]) -> list[InFlight]:
        since = {worker.worker: worker.since for worker in workers}
        found = []
        for key in sorted(self._keys("inflight:*")):
            match = INFLIGHT_KEY.fullmatch(key)
            if not match:
                continue
            worker = ":".join(match.groups()[1:])
            for payload in cast("list[bytes]", self._client.lrange(key, 0, -1)):
                batch_id, clip = read_batch_and_clip(payload)
                found.append(InFlight(match[1], worker, match[2], batch_id, clip, since.get(worker)))
        return found

    def _queues(self, found: Overview) -> list[Queue]:
        queues = []
        for name in [UNPACK, *sorted(self._keys(TRANSCRIBE_LISTS)), FAILED]:
            head = cast("bytes | None", self._client.lindex(name, 0))
            oldest = None if head is None or name == FAILED else self._age(found, head)
            queues.append(Queue(name, self._client.llen(name), oldest))
        return queues

    def _age(self, found: Overview, payload: bytes) -> float | None:
        batch_id, _ = read_batch_and_clip(payload)
        if batch_id is None or "Postgres" in found.down:
            return None
        try:
            transferred = json.loads(payload).get("transferred_at")
        except ValueError:
            transferred = None
        return self._part(found, "Postgres", lambda: self._database.age_of_batch(batch_id, transferred), None)

    def _under_way(self, found: Overview) -> list[BatchUnderWay]:
        in_flight = Counter(job.batch_id for job in found.in_flight if job.clip)
        batches = []
        for key in sorted(self._keys("batch:*:total")):
            batch_id = key.removeprefix("batch:").removesuffix(":total")
            progress = self._batches.progress(batch_id)
            if progress is None:
                continue
            total, done, failed, pending = progress
            flying = min(in_flight[batch_id], pending)
            batches.append(BatchUnderWay(batch_id, total, done, failed, flying, pending - flying, None))
        waiting = 0
        for batch in batches:  # they are done about in this order, so each waits for those before it
            waiting += batch.in_flight + batch.waiting
            batch.eta_s = found.activity.eta_s(waiting) if found.activity else None
        return batches

    def _hosts(self, workers: list[WorkerState]) -> list[Host]:
        alive = Counter(worker.host for worker in workers)
        seen = cast("list[tuple[bytes, float]]", self._client.zrange(HOSTS_SEEN, 0, -1, withscores=True))
        now = time.time()
        return [
            Host(name.decode(), max(0.0, now - at), alive[name.decode()], self._scratch_free.get(name.decode()))
            for name, at in sorted(seen)
        ]

    def _failures(self) -> list[FailureGroup]:
        groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        for raw in self._letters:
            try:
                letter = DeadLetter.parse(raw)
                groups[stage(letter), cause(letter)].append(letter.error)
            except PayloadError as error:
                groups["?", "an entry that is no dead letter"].append(str(error))
        found = [FailureGroup(where, why, len(texts), texts[0]) for (where, why), texts in groups.items()]
        return sorted(found, key=lambda group: -group.count)

    def _keys(self, pattern: str) -> list[str]:
        return [key.decode() for key in cast("list[bytes]", list(self._client.scan_iter(match=pattern, count=1000)))]


def stage(letter: DeadLetter) -> str:
    """Where a job failed: unpack or gpu."""
    return "unpack" if letter.queue == UNPACK else "gpu"


def cause(letter: DeadLetter) -> str:
    """The reason with names and numbers taken out, so that equal failures fall together."""
    return f"{letter.error_class}: {' '.join(_VARIABLE.sub('…', letter.error).split())[:100]}"
