"""A batch's progress: begun by unpack in one script, counted by acknowledgements, finished exactly once.

Keys: batch:{id}:total, :processed, :failed (counters), :s3_key (string), :pending (set of clips without an outcome),
:given_up (set of the clips that :failed counts), :run (string, names the run of unpack that began it), and
batches:finishing (set of batches whose last clip is settled, but whose keys and scratch are not yet removed). Workers
finish the batches of that set. So when the worker that settled the last clip dies, another one finishes the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import redis

from jobs.job_queue import (
    ATTEMPTS,
    DELAYED,
    FAILED,
    FINISHING,
    INTERRUPTIONS,
    UNPACK,
    Claim,
    JobQueue,
    batch_key,
    mapped_redis_errors,
    script,
)
from jobs.payloads import TranscribeJob, UnpackJob
from jobs.queue_snapshot import standing_jobs

KEYS = ("total", "processed", "failed", "s3_key", "pending", "run", "given_up")


@dataclass(frozen=True)
class BatchStart:
    """What unpack found in an archive."""

    job: UnpackJob
    jobs: Sequence[TranscribeJob]  # clips to transcribe
    done_before: int  # clips that have results from an earlier run
    dead_letters: Mapping[str, bytes]  # clips that could not be read, and why
    run: str  # name of this run of unpack; no other run has it

    @property
    def total(self) -> int:
        return len(self.jobs) + self.done_before + len(self.dead_letters)


@dataclass(frozen=True)
class Progress:
    """How many clips a batch has: all, with results, given up, without an outcome."""

    total: int
    processed: int
    failed: int
    pending: int


class Batches:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._start = script(client, "start_batch")
        self._clear = script(client, "clear_batch")
        self._restart = script(client, "restart_batch")

    def under_way(self, batch_id: str) -> bool:
        with mapped_redis_errors():
            return bool(self._client.exists(batch_key(batch_id, "total")))

    def start(
        self, queue: JobQueue, claim: Claim, start: BatchStart, transcribe_queue: str
    ) -> Literal["ok", "exists", "lost"]:
        """Set the batch's keys, push its jobs and acknowledge the unpack job, all or nothing.

        After a ServiceUnavailableError it may have happened or not. Call it again: `start.run` makes that safe.
        """
        batch_id = start.job.batch_id
        keys = [queue.inflight_key(claim.queue), transcribe_queue, FAILED, FINISHING, ATTEMPTS, INTERRUPTIONS]
        keys += [batch_key(batch_id, name) for name in KEYS]
        arguments: list[Any] = [claim.payload, claim.queue, batch_id, start.job.s3_key]
        arguments += [start.total, start.done_before, len(start.dead_letters), start.run, len(start.jobs)]
        for job in start.jobs:
            arguments += [job.original_filename, job.to_json()]
        for clip, letter in start.dead_letters.items():
            arguments += [clip, letter]
        with mapped_redis_errors():
            answer = self._start(keys=keys, args=arguments)
        queue.forget(claim)
        return cast("Literal['ok', 'exists', 'lost']", answer.decode())

    def restart(self, job: UnpackJob, scratch_root: Path, letters: Collection[bytes] = ()) -> int:
        """Remove the batch's keys and jobs, and push its unpack job again -> how many jobs were removed.

        A worker that holds one of the jobs can no longer settle it. The given dead letters are removed as well: each of
        their clips gets a result or a new letter.
        """
        return self._remove(job.batch_id, scratch_root, job.to_json(), letters)

    def cancel(self, batch_id: str, scratch_root: Path) -> int:
        """Remove the batch's keys and jobs -> how many jobs were removed. Its dead letters stay."""
        return self._remove(batch_id, scratch_root, b"", ())

    def _remove(self, batch_id: str, scratch_root: Path, unpack_payload: bytes, letters: Collection[bytes]) -> int:
        keys = [UNPACK, FINISHING, DELAYED, ATTEMPTS, INTERRUPTIONS, FAILED, batch_key(batch_id, "run")]
        keys += [batch_key(batch_id, name) for name in KEYS if name != "run"]
        while True:  # a second time only when a run of unpack began the batch after the jobs were listed
            with mapped_redis_errors():
                run = cast("bytes | None", self._client.get(batch_key(batch_id, "run"))) or b""
            jobs = {job.payload for job in standing_jobs(self._client, scratch_root) if job.batch_id == batch_id}
            with mapped_redis_errors():
                removed = int(
                    self._restart(keys=keys, args=[batch_id, unpack_payload, run, len(jobs), *jobs, *letters])
                )
            if removed >= 0:
                return removed

    def progress(self, batch_ids: Sequence[str]) -> list[Progress | None]:
        """The progress of each batch, read at one moment; None for a batch that is not under way."""
        with mapped_redis_errors(), self._client.pipeline(transaction=True) as pipe:
            for batch_id in batch_ids:
                pipe.mget(*(batch_key(batch_id, name) for name in ("total", "processed", "failed")))
                pipe.scard(batch_key(batch_id, "pending"))
            answers = pipe.execute() if batch_ids else []
        return [
            None if counts[0] is None else Progress(*(int(count or 0) for count in (*counts, pending)))
            for counts, pending in zip(answers[::2], answers[1::2], strict=True)
        ]

    def pending(self, batch_id: str) -> set[str]:
        """Names of the batch's clips without an outcome."""
        with mapped_redis_errors():
            members = cast("set[bytes]", self._client.smembers(batch_key(batch_id, "pending")))
        return {member.decode() for member in members}

    def finishing(self) -> list[str]:
        """Ids of the batches whose clips are all settled, but whose keys and scratch are not yet removed."""
        with mapped_redis_errors():
            members = cast("set[bytes]", self._client.smembers(FINISHING))
        return sorted(member.decode() for member in members)

    def is_finishing(self, batch_id: str) -> bool:
        with mapped_redis_errors():
            return bool(self._client.sismember(FINISHING, batch_id))

    def clear(self, batch_id: str) -> bool:
        """Remove the keys of a batch that is finishing; True for the one caller who removed them.

        A batch that was begun again in the meantime is not finishing, and keeps its keys.
        """
        with mapped_redis_errors():
            keys = [FINISHING, *(batch_key(batch_id, name) for name in KEYS)]
            return bool(self._clear(keys=keys, args=[batch_id]))
