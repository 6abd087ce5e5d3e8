"""Make Redis agree with Postgres and S3 again, after Redis lost its data or somebody deleted a job by mistake.

Postgres is the truth: Redis must hold jobs for every batch that is not complete there. It does not when

- Redis has nothing of the batch: no unpack job, no keys, no dead letter of its archive; or
- the batch's keys are there, but a clip that it waits for has no job anywhere.

Such a batch is unpacked again from its archive; clips that have results are skipped. An archive in S3 that Postgres
does not know gets an unpack job. Batches that are under way are not touched, and a second run changes nothing more.

Every unpack worker does this when it starts. Only when Redis is empty does it look for archives that Postgres does not
know.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import redis

from db import Database
from errors import OperatorError
from jobs.batches import Batches
from jobs.dead_letters import DeadLetters
from jobs.job_queue import UNPACK, mapped_redis_errors
from jobs.payloads import UnpackJob
from jobs.queue_snapshot import MEMORY, standing_jobs
from jobs.s3_keys import ARCHIVES, batch_of_archive
from s3_utils import ObjectStore

LEASE = "lease:reconcile"
SECOND_LOOK_S = 1.0
NEVER_HAD_A_JOB = "its archive never got a job"


@dataclass(frozen=True)
class Restart:
    """A batch whose archive is to be unpacked again, and why."""

    job: UnpackJob
    reason: str


class Reconciler:
    def __init__(
        self,
        client: redis.Redis,
        db: Database,
        s3: ObjectStore,
        letters: DeadLetters,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_progress` is called for every batch that is looked at or brought back."""
        self._on_progress = on_progress
        self._client = client
        self._db = db
        self._s3 = s3
        self._letters = letters
        self._batches = Batches(client)

    def plan(self, *, archives: bool) -> list[Restart]:
        """The batches to unpack again; with `archives`, also the archives that never got a job.

        A batch counts only if two looks, a moment apart, find it: between them a job may have moved on.
        """
        first = {restart.job.batch_id for restart in self._look(archives=archives)}
        if not first:
            return []
        time.sleep(SECOND_LOOK_S)
        return [restart for restart in self._look(archives=archives) if restart.job.batch_id in first]

    def apply(self, restarts: Iterable[Restart]) -> None:
        """Unpack these again. The letters of their clips are removed: each clip gets a result or a new letter."""
        letters = self._letters.of_clips()
        for restart in restarts:
            self._batches.restart(restart.job, self._letters.scratch_root, letters.get(restart.job.batch_id, ()))
            self._on_progress()

    def remember(self) -> None:
        """Note in Redis that it agrees with Postgres. While the note is missing, `status` warns."""
        with mapped_redis_errors():
            self._client.set(MEMORY, int(time.time()), nx=True)

    def archives_without_batch(self) -> list[UnpackJob]:
        """Archives in S3 that Postgres does not know and that have no job."""
        return [restart.job for restart in self._look(archives=True) if restart.reason == NEVER_HAD_A_JOB]

    def at_start(self, worker: str) -> list[Restart]:
        """Reconcile when an unpack worker starts -> what was brought back; nothing if one did so in the last minute."""
        with mapped_redis_errors():
            if not self._client.set(LEASE, worker, nx=True, ex=60):
                return []
            empty = not self._client.exists(MEMORY)
        try:
            restarts = self.plan(archives=empty)
            self.apply(restarts)
            self.remember()
        except OperatorError:
            with contextlib.suppress(redis.RedisError):
                self._client.delete(LEASE)  # it is not done: the next worker that starts must do it
            raise
        return restarts

    def _look(self, *, archives: bool) -> list[Restart]:
        unfinished = self._db.unfinished_batches()
        known = self._db.known_batches() if archives else set()
        stored = [batch for batch in self._archives() if batch.batch_id not in known] if archives else []
        jobs = standing_jobs(self._client, self._letters.scratch_root)
        awaited = {job.batch_id for job in jobs if job.queue == UNPACK} | self._letters.archives()
        clips: dict[str, set[str]] = defaultdict(set)
        for job in jobs:
            if job.queue != UNPACK and job.batch_id and job.clip:
                clips[job.batch_id].add(job.clip)
        restarts = []
        for batch in unfinished:
            self._on_progress()
            reason = None if batch.batch_id in awaited else self._problem(batch.batch_id, clips[batch.batch_id])
            if reason:
                restarts.append(Restart(batch, reason))
        restarts += [Restart(batch, NEVER_HAD_A_JOB) for batch in stored if batch.batch_id not in awaited]
        return restarts

    def _problem(self, batch_id: str, clips_with_jobs: set[str]) -> str | None:
        if batch_id in self._batches.finishing():
            return None
        if not self._batches.under_way(batch_id):
            return "Redis knows nothing of it"
        lost = self._batches.pending(batch_id) - clips_with_jobs
        return f"{len(lost)} of its clips have no job" if lost else None

    def _archives(self) -> Iterable[UnpackJob]:
        for key in self._s3.keys(ARCHIVES):
            if batch_id := batch_of_archive(key):
                yield UnpackJob(batch_id=batch_id, s3_key=key)
