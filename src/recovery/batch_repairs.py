"""Requeue or cancel a batch: first the plan, which changes nothing, then the change, which is recorded.

A plan says what would change, so that a command can ask first. Both raise RefusedError, with a sentence for the
operator, when the state of the batch does not allow the change, and UnknownError when there is no such batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from db import AuditLog, BatchState, DatabaseOverview, WantedResults
from errors import PermanentError, RefusedError, UnknownError
from jobs.batches import Batches
from jobs.dead_letters import DeadLetters
from jobs.job_queue import UNPACK
from jobs.payloads import UnpackJob, parse_unpack_job
from jobs.queue_snapshot import standing_jobs

if TYPE_CHECKING:  # loading it takes a third of a second; a command that only cancels skips it
    from s3_utils import ObjectStore


@dataclass(frozen=True)
class RequeuePlan:
    """A batch to unpack again."""

    job: UnpackJob  # of its archive
    clips: int  # how many are to be done
    everything: bool  # also those that have results

    @property
    def batch_id(self) -> str:
        return self.job.batch_id


@dataclass(frozen=True)
class CancelPlan:
    """A batch to cancel."""

    batch_id: str
    clips: int | None  # without an outcome; None as long as the archive is not unpacked
    waiting: UnpackJob | None  # its job, when no worker has begun with the archive


class BatchRepairs:
    def __init__(self, client: redis.Redis, db: DatabaseOverview, scratch_root: Path, audit: AuditLog) -> None:
        self._client = client
        self._db = db
        self._scratch_root = scratch_root
        self._audit = audit
        self._batches = Batches(client)
        self._letters = DeadLetters(client, scratch_root)

    def known(self, batch_id: str) -> BatchState:
        """The batch as Postgres knows it; raises UnknownError when it does not."""
        found = self._db.batch(batch_id)
        if found is None and self._waiting_job(batch_id) is not None:
            raise UnknownError(
                f"batch {batch_id} waits to be unpacked; Postgres knows it when a worker has begun with it"
            )
        if found is None:
            raise UnknownError(f"Postgres knows no batch {batch_id}; audio-pipeline batch list shows those it knows")
        return found

    def plan_requeue(
        self, batch_id: str, s3: ObjectStore, *, everything: bool, wanted: WantedResults | None = None
    ) -> RequeuePlan:
        """Unpack the batch's archive again and do the clips that lack results; with `everything`, all its clips.

        `wanted` says which results the workers write. Without it, a clip with results of any version counts as done.
        """
        batch = self.known(batch_id)
        if everything:
            clips = batch.total
        elif wanted is None:
            clips = batch.total - batch.done
        else:
            clips = self._db.clips_to_do(batch_id, wanted)
        return RequeuePlan(_unpack_job(batch, s3), clips, everything)

    def requeue(self, plan: RequeuePlan) -> None:
        """Push the unpack job, and remove what Redis holds of the batch, its dead letters too.

        Each clip of those letters gets a result or a new letter. A cancelled batch is not cancelled any more.
        """
        details = {"everything": plan.everything}
        with self._audit.change("batch requeue", plan.batch_id, plan.clips, details) as change:
            with self._db.reopened_batch(plan.batch_id, everything=plan.everything):
                self._batches.restart(plan.job, self._scratch_root, self._letters.of_batch(plan.batch_id))
            change.affected = plan.clips

    def plan_cancel(self, batch_id: str) -> CancelPlan:
        """Give up the batch's clips that have no outcome yet."""
        waiting = self._waiting_job(batch_id)
        if waiting is not None and self._db.batch(batch_id) is None:
            return CancelPlan(batch_id, None, parse_unpack_job(waiting))
        batch = self.known(batch_id)
        if batch.completed_at:
            raise _complete(batch_id)
        return CancelPlan(batch_id, batch.total - batch.done - batch.failed if batch.unpacked_at else None, None)

    def cancel(self, plan: CancelPlan) -> int:
        """Mark the batch as cancelled and remove its jobs, also claimed ones -> how many jobs were removed."""
        clips = plan.clips or 0
        with self._audit.change("batch cancel", plan.batch_id, clips, {}) as change:
            if plan.waiting is not None:
                self._db.note_batch(plan.waiting)  # so that there is a row to mark as cancelled
            with self._db.cancelled_batch(plan.batch_id) as marked:
                if not marked:  # the batch was completed after the plan was made
                    raise _complete(plan.batch_id)
                removed = self._batches.cancel(plan.batch_id, self._scratch_root)
            change.affected = clips
        return removed

    def _waiting_job(self, batch_id: str) -> bytes | None:
        """The batch's unpack job, wherever it stands."""
        jobs = standing_jobs(self._client, self._scratch_root)
        return next((job.payload for job in jobs if job.batch_id == batch_id and job.queue == UNPACK), None)


def _complete(batch_id: str) -> RefusedError:
    return RefusedError(f"batch {batch_id} is complete; there is nothing to cancel")


def _unpack_job(batch: BatchState, s3: ObjectStore) -> UnpackJob:
    if batch.s3_key is None:
        raise RefusedError(
            f"batch {batch.batch_id} has no archive: its clips were injected one by one; inject them again"
        )
    try:
        s3.size(batch.s3_key)
    except PermanentError as error:
        raise RefusedError(f"{error}; bring the archive back, or inject its clips") from error
    transferred_at = batch.transferred_at.isoformat() if batch.transferred_at else None
    return UnpackJob(
        batch_id=batch.batch_id,
        s3_key=batch.s3_key,
        archive_name=batch.original_filename,
        transferred_at=transferred_at,
    )
