"""Hosts that are gone for good: their batches are unpacked again on other hosts, and their queues are emptied.

The clips of a host lie on its own disk, so no other host can do the jobs of its queue. A host that has been silent for
HOST_LOST_AFTER_S counts as lost. If it comes back, its old scratch is removed once those batches are finished.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import redis

from config import host_queue
from db import Database
from errors import PermanentError
from jobs import dead_letters
from jobs.batches import Batches
from jobs.job_queue import (
    ATTEMPTS,
    FAILED,
    FINISHING,
    HOSTS_SEEN,
    INTERRUPTIONS,
    Claim,
    ClipRef,
    WorkerName,
    batch_key,
    counts_field,
    mapped_redis_errors,
    script,
)
from jobs.payloads import UnpackJob
from jobs.queue_snapshot import StandingJob, standing_jobs


class LostHosts:
    def __init__(
        self,
        client: redis.Redis,
        db: Database,
        observer: WorkerName,
        scratch_root: Path,
        *,
        after_s: float,
        ttl_s: float,
    ) -> None:
        self._client = client
        self._db = db
        self._observer = observer
        self._scratch_root = scratch_root
        self._after_s = after_s
        self._ttl_s = ttl_s
        self._batches = Batches(client)
        self._letters = dead_letters.DeadLetters(client, scratch_root)
        self._replace_by_letter = script(client, "dead_letter")
        self._suspected: dict[str, float] = {}  # host -> when we first saw that it is overdue

    def look(self) -> list[str]:
        """Hosts to retire: overdue, and watched by us for as long as a heartbeat lives.

        The watching is needed because every host looks overdue for a moment after Redis itself was away.
        """
        with mapped_redis_errors():
            seconds, _ = self._client.time()
            silent = self._client.zrangebyscore(HOSTS_SEEN, "-inf", seconds - self._after_s)
        now = time.monotonic()
        overdue = [host.decode() for host in cast("list[bytes]", silent)]
        self._suspected = {host: self._suspected.get(host, now) for host in overdue if host != self._observer.host}
        return [host for host, since in self._suspected.items() if now - since >= self._ttl_s]

    def forget(self) -> None:
        """Start watching again: Redis was down, so what was seen before does not count."""
        self._suspected = {}

    def retire(self, host: str) -> list[UnpackJob]:
        """Unpack the host's unfinished batches again and turn the other jobs of its queue into dead letters.

        Returns those batches. The letters of their clips are removed: each clip gets a result or a new letter. A batch
        whose archive is itself a dead letter is left to the person who decides about it.
        """
        given_up, letters = self._letters.archives(), self._letters.of_clips()
        batches = [batch for batch in self._db.unfinished_batches(host) if batch.batch_id not in given_up]
        jobs = standing_jobs(self._client, self._scratch_root)
        for batch in batches:
            self._batches.restart(batch, self._scratch_root, letters.get(batch.batch_id, ()))
        restarted = {batch.batch_id for batch in batches}
        queue = host_queue(host)
        self._give_up([job for job in jobs if job.queue == queue and job.batch_id not in restarted], host)
        with mapped_redis_errors():
            self._client.zrem(HOSTS_SEEN, host)
        self._suspected.pop(host, None)
        return batches

    def _give_up(self, jobs: Sequence[StandingJob], host: str) -> None:
        """Replace each of the host's jobs by a dead letter."""
        error = PermanentError(f"host {host}, on whose disk this clip lay, is gone; inject its archive again")
        for job in jobs:
            clip = ClipRef(job.batch_id, job.clip) if job.batch_id and job.clip else None
            letter = dead_letters.write(Claim(job.queue, job.payload, 0, 0), error, worker=self._observer, clip=clip)
            batch_id = clip.batch_id if clip else "-"
            keys = [job.key, FAILED, ATTEMPTS, INTERRUPTIONS]
            keys += [*(batch_key(batch_id, name) for name in ("pending", "failed", "given_up")), FINISHING]
            field = counts_field(job.queue, job.payload)
            if clip:
                self._db.mark_failed(clip.batch_id, clip.clip, str(error))
            with mapped_redis_errors():
                self._replace_by_letter(
                    keys=keys, args=[job.member, letter, field, clip.clip if clip else "", batch_id]
                )
