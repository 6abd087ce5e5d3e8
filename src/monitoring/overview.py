"""The state of the pipeline at one moment, for people and programs: queues, batches, workers, hosts, failures.

The three services are asked at the same time and independently. If one is down, only its part is missing, and `down`
holds the reason. Depths and counts come from Redis, ages and rates from Postgres; S3 is only asked whether it answers.
Redis gets one pipeline of commands for all queues, one for all workers, and so on.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar, cast

import redis

from config import TRANSCRIBE, host_of
from db import PACE_MINUTES, Activity, DatabaseOverview
from errors import OperatorError, PayloadError
from jobs.batches import Batches
from jobs.dead_letters import DeadLetter, DeadLetters
from jobs.job_queue import DELAYED, FAILED, HOSTS_SEEN, INFLIGHT_KEY, UNPACK, mapped_redis_errors
from jobs.payloads import read_batch_and_clip
from jobs.queue_snapshot import MEMORY, TRANSCRIBE_LISTS
from system import shown

if TYPE_CHECKING:
    from s3_utils import ObjectStore

SILENT_S = 90.0  # a host whose last sign of life is older is shown as silent
CAUSE_CHARS = 100
_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*|\b[0-9][0-9a-f.,:-]*|\b[0-9a-f]*[0-9][0-9a-f]{5,}\b")

Found = TypeVar("Found")


@dataclass
class Queue:
    name: str
    depth: int
    oldest_s: float | None  # age of the job that is next; None when it is unknown
    done_per_min: float | None  # rate of the last minutes; for a host's own queue, the rate of that host


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
    eta_s: tuple[float, float] | None  # earliest and latest end, at the pace of the last minutes
    doubtful: int | None = None  # of the clips that are done; None when Postgres is down
    not_judged: int | None = None  # of the clips that are done, those in a language that is not judged


@dataclass
class WorkerState:
    worker: str
    host: str
    kind: str
    state: str
    detail: str
    since: str
    heartbeat_s: float  # seconds until the heartbeat expires
    memory_bytes: int | None
    scratch_free_bytes: int | None  # on the worker's host
    problems: list[str] = field(default_factory=list)  # need a person, although the worker continues


@dataclass
class Host:
    host: str
    heard_s: float  # seconds since its last sign of life
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
    down: dict[str, str] = field(default_factory=dict)  # service -> reason
    queues: list[Queue] = field(default_factory=list)
    in_flight: list[InFlight] = field(default_factory=list)
    delayed: int = 0
    batches: list[BatchUnderWay] = field(default_factory=list)
    workers: list[WorkerState] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    failures: list[FailureGroup] = field(default_factory=list)
    activity: Activity | None = None
    # Redis was emptied: Postgres knows archives, but Redis has lost its note that both agree.
    emptied: bool = False

    @property
    def needs_a_person(self) -> list[str]:
        """The reasons why a person is needed; empty when none is."""
        reasons = [f"{service} is down: {why}" for service, why in self.down.items()]
        reasons += [f"{worker.kind} worker {worker.worker} is held: {worker.detail}" for worker in self.held]
        if self.emptied and self.activity:
            reasons.append(
                f"Redis was emptied, or is new, and {self.activity.batches_open:,} batches are not complete: "
                "run audio-pipeline reconcile, which shows what it would bring back and asks"
            )
        reasons += [
            f"{worker.kind} worker {worker.worker}: {problem}" for worker in self.workers for problem in worker.problems
        ]
        failed = sum(group.count for group in self.failures)
        if failed:
            reasons.append(f"{failed:,} dead letters wait for a decision: run audio-pipeline failed list")
        kinds = {worker.kind for worker in self.workers}
        if "Redis" not in self.down:
            waiting = {queue.name: queue.depth for queue in self.queues}
            if waiting.get(UNPACK) and "unpack" not in kinds:
                reasons.append("archives wait, but no unpack worker is alive")
            if any(depth for name, depth in waiting.items() if name.startswith(TRANSCRIBE)) and "gpu" not in kinds:
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
    """Asks the services. `store` is called in a thread, because making an S3 client takes a third of a second."""

    def __init__(
        self, client: redis.Redis, database: DatabaseOverview, store: Callable[[], ObjectStore], letters: DeadLetters
    ) -> None:
        self._client = client
        self._database = database
        self._store = store
        self._letters = letters
        self._batches = Batches(client)

    def gather(self) -> Overview:
        found = Overview()
        with ThreadPoolExecutor() as pool:
            s3 = pool.submit(_outcome, lambda: self._store().check())
            database = pool.submit(_outcome, self._database.activity)
            from_redis = _outcome(lambda: self._from_redis(found))
            outcomes = {"Redis": from_redis, "Postgres": database.result(), "S3": s3.result()}
        found.down = {service: str(outcome) for service, outcome in outcomes.items() if isinstance(outcome, Exception)}
        if isinstance(activity := outcomes["Postgres"], Activity):
            found.activity = activity
            found.emptied = "Redis" not in found.down and not self._has_memory and activity.archives_known > 0
            self._add_pace(found, activity)
        return found

    def _from_redis(self, found: Overview) -> None:
        with mapped_redis_errors():
            found.workers = living_workers(self._client)
            found.in_flight = jobs_in_flight(self._client, found.workers, self._letters.scratch_root)
            found.queues, self._heads = self._queues()
            found.delayed = self._client.zcard(DELAYED)
            found.batches = self._under_way(found)
            found.hosts = self._hosts(found.workers)
            self._has_memory = self._memory_exists()
        found.failures = self._failures()

    def _memory_exists(self) -> bool:
        """Whether Redis still has its note that it agrees with Postgres (see `recovery/reconcile.py`)."""
        try:
            return bool(self._client.exists(MEMORY))
        except redis.exceptions.NoPermissionError:  # this user may not read the note
            return True

    def _queues(self) -> tuple[list[Queue], dict[str, bytes]]:
        names = [UNPACK, *_keys(self._client, TRANSCRIBE_LISTS), FAILED]
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(name)
                pipe.lindex(name, 0)
            answers = pipe.execute()
        depths, heads = answers[::2], answers[1::2]
        queues = [Queue(name, depth, None, None) for name, depth in zip(names, depths, strict=True)]
        return queues, {name: head for name, head in zip(names, heads, strict=True) if head is not None}

    def _add_pace(self, found: Overview, activity: Activity) -> None:
        """Add the values that need Postgres: the age of each queue's next job, rates, and the ends of batches."""
        for queue in found.queues:
            head = self._heads.get(queue.name)
            if queue.name == FAILED:
                continue
            if head is not None:
                queue.oldest_s = self._age(queue.name, head)
            if queue.name == UNPACK:
                queue.done_per_min = activity.archives_per_minute
            elif queue.name == TRANSCRIBE:
                queue.done_per_min = sum(activity.clips_per_minute) / PACE_MINUTES
            else:
                queue.done_per_min = activity.clips_per_minute_by_host.get(host_of(queue.name) or "", 0.0)
        waiting = 0
        for batch in found.batches:  # batches are done in about this order, so each waits for those before it
            waiting += batch.in_flight + batch.waiting
            batch.eta_s = activity.eta_s(waiting)
        doubts = _outcome(lambda: self._database.doubts([batch.batch_id for batch in found.batches]))
        if isinstance(doubts, dict):
            for batch in found.batches:
                batch.doubtful, batch.not_judged = doubts.get(batch.batch_id, (0, 0))

    def _age(self, queue: str, payload: bytes) -> float | None:
        batch_id, _ = read_batch_and_clip(queue, payload, self._letters.scratch_root)
        if batch_id is None:
            return None
        try:
            return self._database.age_of_batch(batch_id, json.loads(payload).get("transferred_at"))
        except (OperatorError, TypeError):
            return None

    def _under_way(self, found: Overview) -> list[BatchUnderWay]:
        in_flight = Counter(job.batch_id for job in found.in_flight if job.clip)
        ids = [key.removeprefix("batch:").removesuffix(":total") for key in _keys(self._client, "batch:*:total")]
        batches = []
        for batch_id, progress in zip(ids, self._batches.progress(ids), strict=True):
            if progress is not None:
                flying = min(in_flight[batch_id], progress.pending)
                counts = (progress.total, progress.processed, progress.failed, flying, progress.pending - flying)
                batches.append(BatchUnderWay(batch_id, *counts, eta_s=None))
        return batches

    def _hosts(self, workers: list[WorkerState]) -> list[Host]:
        alive = Counter(worker.host for worker in workers)
        free = {worker.host: worker.scratch_free_bytes for worker in workers}
        seen = cast("list[tuple[bytes, float]]", self._client.zrange(HOSTS_SEEN, 0, -1, withscores=True))
        hosts = {name.decode("utf-8", "backslashreplace"): max(0.0, time.time() - at) for name, at in sorted(seen)}
        return [Host(host, heard_s, alive[host], free.get(host)) for host, heard_s in hosts.items()]

    def _failures(self) -> list[FailureGroup]:
        groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        for raw in self._letters:
            try:
                letter = self._letters.parse(raw)
                groups[letter.stage, cause(letter)].append(letter.error)
            except PayloadError as error:
                groups["?", "an entry that is not a dead letter"].append(str(error))
        found = [FailureGroup(where, why, len(texts), texts[0]) for (where, why), texts in groups.items()]
        return sorted(found, key=lambda group: -group.count)


def _outcome(ask: Callable[[], Found]) -> Found | OperatorError:
    try:
        return ask()
    except OperatorError as error:
        return error


def _keys(client: redis.Redis, pattern: str) -> list[str]:
    found = cast("list[bytes]", list(client.scan_iter(match=pattern, count=1000)))
    return sorted(key.decode() for key in found if _is_text(key))  # a person made the others by hand


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def living_workers(client: redis.Redis) -> list[WorkerState]:
    """The state of every worker that has a heartbeat."""
    keys = _keys(client, "worker:*")
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.get(key)
            pipe.pttl(key)
        answers = pipe.execute()
    return [
        worker
        for key, raw, left_ms in zip(keys, answers[::2], answers[1::2], strict=True)
        if (worker := _worker(key.removeprefix("worker:"), raw or b"", left_ms / 1000)) is not None
    ]


def _worker(name: str, raw: bytes, heartbeat_s: float) -> WorkerState | None:
    """The worker's state; None when the key has expired in the meantime or is not a heartbeat."""
    try:
        status = json.loads(raw)
        return _described(name, status, heartbeat_s)
    except (ValueError, KeyError, TypeError):
        return None


def _described(name: str, status: dict[str, Any], heartbeat_s: float) -> WorkerState:
    return WorkerState(
        worker=name,
        host=name.rsplit(":", 2)[0],
        kind=status["kind"],
        state=status["state"],
        detail=status["detail"],
        since=status["since"],
        heartbeat_s=heartbeat_s,
        memory_bytes=status.get("memory_bytes"),
        scratch_free_bytes=status.get("scratch_free_bytes"),
        problems=[str(problem) for problem in status.get("problems", ())],
    )


def jobs_in_flight(client: redis.Redis, workers: list[WorkerState], scratch_root: Path) -> list[InFlight]:
    """The jobs in the workers' in-flight lists, including those of dead workers."""
    since = {worker.worker: worker.since for worker in workers}
    keys = [(key, match) for key in _keys(client, "inflight:*") if (match := INFLIGHT_KEY.fullmatch(key))]
    with client.pipeline(transaction=False) as pipe:
        for key, _ in keys:
            pipe.lrange(key, 0, -1)
        answers = pipe.execute()
    found = []
    for (_, match), payloads in zip(keys, answers, strict=True):
        worker = ":".join(match.groups()[1:])
        for payload in payloads:
            batch_id, clip = read_batch_and_clip(match[1], payload, scratch_root)
            found.append(InFlight(match[1], worker, match[2], batch_id, clip, since.get(worker)))
    return found


def cause(letter: DeadLetter) -> str:
    """The reason of a failure without names and numbers, so that equal failures form one group."""
    text = letter.error
    for name in _names(letter):
        text = text.replace(name, "…")
    text = " ".join(_VARIABLE.sub("…", text).split())
    return shown.shortened(f"{shown.shortened(letter.error_class, 40)}: {text}", CAUSE_CHARS)


def _names(letter: DeadLetter) -> list[str]:
    """The names of the letter's job, the longest first, because a message may hold them without quotes."""
    found = {letter.clip, letter.batch_id, letter.parked_s3_key}
    found |= {PurePosixPath(name).name for name in found if name}
    return sorted((name for name in found if name and len(name) > 2), key=lambda name: (-len(name), name))
