"""A small fleet on a real Redis, the model of it, and a ledger: the steps of the state machine use them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import redis

from errors import AudioError
from jobs import dead_letters
from jobs.batches import Batches, BatchStart
from jobs.dead_letters import DeadLetters
from jobs.job_queue import DELAYED, HOSTS_SEEN, UNPACK, Claim, ClipRef, JobQueue, WorkerName
from jobs.payloads import TranscribeJob, UnpackJob
from tests.reliability.queue_model import BatchModel, QueueModel, inflight

TRANSCRIBE = "queue:transcribe"
CLIPS = ("a.mp3", "b.mp3", "c.mp3")
SCRATCH = Path("/scratch")
BY_HAND = (b"no job", b"\xff\x00 bytes\nwith lines\n", b'{"batch_id": "b1"}')
WORKERS = range(3)


@dataclass(frozen=True)
class Held:
    """A claim and its worker, which may have been declared dead since."""

    queue: JobQueue
    claim: Claim


class QueueWorld:
    client: ClassVar[redis.Redis]

    def __init__(self) -> None:
        self.client.flushdb()
        self.model = QueueModel()
        self.batches = Batches(self.client)
        self.letters = DeadLetters(self.client, SCRATCH)
        self.fleet = [self.new_worker(number) for number in WORKERS]
        self.held: list[Held] = []
        self.spent: list[Held] = []  # claims that their worker has let go of, in its own opinion
        self.about: dict[bytes, ClipRef | str] = {}  # payload -> the clip, or the batch of an archive
        self.results: set[ClipRef] = set()  # clips with results, as Postgres would know
        self.jobs = self.dead = 0  # the ledger: jobs that must be somewhere, letters that must stand in queue:failed
        self.runs = 0
        self.completed: Counter[str] = Counter()  # by run of unpack
        self.last_start: tuple[Held, BatchStart] | None = None

    def new_worker(self, number: int) -> JobQueue:
        host = "host-1" if number < 2 else "host-2"
        queue = JobQueue(self.client, WorkerName.of_this_process(host))
        self.beat(queue.worker)
        return queue

    def beat(self, worker: WorkerName) -> None:
        self.client.set(worker.heartbeat_key, "{}")
        self.client.zadd(HOSTS_SEEN, {worker.host: 1})  # and stays: no host is given up here
        self.model.alive.add(worker)

    def expire(self, worker: WorkerName) -> None:
        self.client.delete(worker.heartbeat_key)
        self.model.alive.discard(worker)

    def push(self, queue: str, payload: bytes, *, urgent: bool = False) -> None:
        if queue == UNPACK and payload not in BY_HAND:
            self.about.setdefault(payload, json.loads(payload)["batch_id"])
        if urgent:
            self.client.lpush(queue, payload)
            self.model.lists[queue].insert(0, payload)
        else:
            self.client.rpush(queue, payload)
            self.model.lists[queue].append(payload)
        self.jobs += 1

    def return_unheard(self, queue: JobQueue) -> None:
        """In the model: return the jobs whose claim's answer was lost, as the worker's next claim does first."""
        if not queue._uncertain:
            return
        known = [claim.payload for claim in queue._held]
        for name in queues_of(queue):
            for payload in list(self.model.lists[inflight(queue.worker, name)]):
                if payload in known:
                    known.remove(payload)
                else:
                    self.model.hand_back(queue.worker, name, payload)

    def reap(self, by: JobQueue) -> None:
        expected = {
            key
            for key, payloads in self.model.lists.items()
            if payloads
            and key.startswith("inflight:")
            and not any(key.endswith(str(name)) for name in self.model.alive)
        }
        reaped = by.reap()
        assert {f"inflight:{queue}:{worker}" for worker, queue, _ in reaped} == expected - own_lists(by)
        for worker, queue, moved in reaped:
            host, pid, nonce = worker.split(":")
            assert moved == self.model.reap(WorkerName(host, int(pid), nonce), queue)

    def unpacked(self, held: Held, batch_id: str, broken: set[str]) -> BatchStart:
        todo = [clip for clip in CLIPS if ClipRef(batch_id, clip) not in self.results]
        self.runs += 1
        letters = {
            clip: dead_letters.write(
                held.claim,
                AudioError(f"{clip} holds no audio, said run {self.runs}"),
                worker=held.queue.worker,
                clip=ClipRef(batch_id, clip),
                parked=f"failed/{batch_id}/{clip}",
            )
            for clip in todo
            if clip in broken
        }
        jobs = [
            TranscribeJob(opus_path=SCRATCH / batch_id / clip, batch_id=batch_id, original_filename=clip)
            for clip in todo
            if clip not in broken
        ]
        return BatchStart(unpack_job(batch_id), jobs, len(CLIPS) - len(todo), letters, run=f"run {self.runs}")

    def begin(self, held: Held, start: BatchStart) -> None:
        self.last_start = held, start
        batch_id, worker = start.job.batch_id, held.queue.worker
        clips = {job.original_filename for job in start.jobs}
        batch = BatchModel(start.job.s3_key, start.run, start.total, start.done_before, clips, set(start.dead_letters))
        jobs = [job.to_json() for job in start.jobs]
        self.about |= {job.to_json(): ClipRef(batch_id, job.original_filename) for job in start.jobs}
        queue = f"{TRANSCRIBE}:{worker.host}"
        begun = self.model.batches.get(batch_id)
        known = begun is not None and begun.run == start.run
        expected = self.model.start(worker, held.claim.payload, batch_id, batch, jobs, start.dead_letters, queue)
        assert self.batches.start(held.queue, held.claim, start, queue) == expected
        if expected == "lost" or known:
            return
        self.jobs -= 1
        if expected == "ok":
            self.jobs, self.dead = self.jobs + len(jobs), self.dead + len(start.dead_letters)
            if not jobs:
                self.completes(batch_id)

    def settle(self, held: Held, letter: bytes | None) -> None:
        claim, clip = held.claim, self.clip_of(held)
        expected = self.model.settle(held.queue.worker, claim.queue, claim.payload, clip, letter)
        assert held.queue.settle(claim, clip=clip, dead_letter=letter) == expected
        if expected == "lost":
            return
        self.jobs, self.dead = self.jobs - 1, self.dead + bool(letter)
        if clip and expected == "complete":
            self.completes(clip.batch_id)

    def completes(self, batch_id: str) -> None:
        run = self.model.batches[batch_id].run
        self.completed[run] += 1
        assert self.completed[run] == 1

    def clip_of(self, held: Held) -> ClipRef | None:
        about = self.about.get(held.claim.payload)
        return about if isinstance(about, ClipRef) else None

    def let_go(self, held: Held, how: str) -> None:
        """Delay the job for a very long time, with or without a failure, or hand it back."""
        worker, claim = held.queue.worker, held.claim
        if how == "handed back":
            assert held.queue.hand_back(claim) == self.model.hand_back(worker, claim.queue, claim.payload)
            return
        before, failed = self.delayed(), how == "failed"
        answer = held.queue.retry_later(claim, 1000, failed=failed)
        assert answer == self.model.put_off(worker, claim.queue, claim.payload, failed=failed)
        self.model.delayed += self.delayed() - before

    def delayed(self) -> set[bytes]:
        return set(cast("list[bytes]", self.client.zrange(DELAYED, 0, -1)))

    def let_every_delay_be_over(self) -> None:
        self.model.due = sorted(self.model.delayed, key=lambda member: member.split(b"\n", 2)[::2])
        for order, member in enumerate(self.model.due):
            self.client.zadd(DELAYED, {member: order})

    def take(self, pick: int) -> Held:
        held = self.held.pop(pick % len(self.held))
        self.spent.append(held)
        return held


def unpack_job(batch_id: str) -> UnpackJob:
    return UnpackJob(batch_id=batch_id, s3_key=f"archives/{batch_id}.tar")


def queues_of(queue: JobQueue) -> list[str]:
    return [f"{TRANSCRIBE}:{queue.worker.host}", TRANSCRIBE, UNPACK]


def own_lists(queue: JobQueue) -> set[str]:
    return {inflight(queue.worker, name) for name in queues_of(queue)}


def batch_of(about: ClipRef | str) -> str:
    return about.batch_id if isinstance(about, ClipRef) else about
