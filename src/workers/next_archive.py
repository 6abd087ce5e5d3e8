"""Which archive of `queue:unpack` this worker takes next, when scratch cannot hold every one of them now.

The first in line is taken if it fits. One that has to wait for room steps aside: the first of the next LOOK_AHEAD that
fits is taken instead, so that one large archive does not stop the fleet. It does not wait for ever: when MAX_LET_BY
others went before it, or ROOM_WAIT_S have passed, this worker takes nothing that stands behind it. Its scratch then
empties as batches end, and the large one fits. One that would not fit on an empty scratch either, because of what else
the volume holds, is given up when that has lasted for ROOM_WAIT_S; larger than the volume, at once.

Each worker counts for itself, because the room that an archive waits for is that of its own host; a restart begins
anew. What an operator pushes to the head of the line (LPUSH) stands in front of the archive that waits, and goes first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from errors import OperatorError, PermanentError, PipelineError
from jobs.payloads import parse_unpack_job
from s3_utils import ObjectStore
from scratch import volume

LOOK_AHEAD = 50  # jobs looked at; each costs one question to S3 a minute
MAX_LET_BY = 5  # as many as are in work at a time at most hosts: they end within minutes
SIZE_HOLDS_S = 60.0  # an archive that is replaced in S3 is noticed after so long


@dataclass
class _Waiting:
    """An archive that does not fit now."""

    since: float  # monotonic seconds
    let_by: int = 0  # archives behind it that were taken
    too_large_since: float | None = None  # that it would not fit on an empty scratch


class NextArchive:
    def __init__(self, scratch_root: Path, s3: ObjectStore, wait_s: float) -> None:
        self._root = scratch_root
        self._s3 = s3
        self._wait_s = wait_s
        self._too_large: bytes | None = None  # the choice, when it is chosen to be given up
        self._waiting: dict[bytes, _Waiting] = {}
        self._passed: list[bytes] = []  # those in front of the choice
        self._sizes: dict[str, tuple[int, float]] = {}  # by key: bytes, and until when they are believed

    def choose(self, jobs: Sequence[bytes]) -> tuple[bytes | None, str]:
        """-> the job to take, or None and why none is; raises OperatorError when S3 or scratch does not answer."""
        now = time.monotonic()
        self._waiting = {job: self._waiting[job] for job in jobs if job in self._waiting}
        self._passed = []
        self._too_large = None
        reason = ""
        for job in jobs:
            problem = self._room_problem(job, now)
            if not problem:
                return job, ""
            waiting = self._waiting.setdefault(job, _Waiting(now))
            lasting = self._lasting_problem(job, now)
            waiting.too_large_since = (waiting.too_large_since or now) if lasting else None
            if lasting and now - (waiting.too_large_since or now) >= self._wait_s:
                self._too_large = job
                return job, ""
            problem = f"{lasting} (it is given up when this has lasted for ROOM_WAIT_S)" if lasting else problem
            reason = reason or problem
            self._passed.append(job)
            # One that no end of a batch can help does not stop others: it is given up soon.
            if not lasting and (waiting.let_by >= MAX_LET_BY or now - waiting.since >= self._wait_s):
                ahead = f"nothing behind it is taken before it: {waiting.let_by} archives have passed it"
                return None, problem if len(jobs) == 1 else f"{problem}; {ahead}"
        return None, reason

    def gives_up(self, job: bytes) -> bool:
        """Whether the job was chosen because it has been too large for this host for long enough."""
        return job == self._too_large

    def taken(self, job: bytes) -> None:
        """The job that was chosen last is claimed: those in front of it have let it by."""
        for passed in self._passed:
            if passed in self._waiting:
                self._waiting[passed].let_by += 1
        self._waiting.pop(job, None)
        self._sizes.clear()  # should one have been wrong, it is not met again

    def _room_problem(self, payload: bytes, now: float) -> str:
        """Why scratch cannot hold the archive yet, or ''; what else is wrong with a job is found when it is claimed."""
        try:
            job = parse_unpack_job(payload)
            problem = volume.room_problem(self._root, self._size(job.s3_key, now), job.s3_key)
        except OperatorError:
            raise
        except PipelineError:
            return ""
        return str(problem) if isinstance(problem, OperatorError) else ""

    def _lasting_problem(self, payload: bytes, now: float) -> PermanentError | None:
        job = parse_unpack_job(payload)
        return volume.lasting_problem(self._root, self._size(job.s3_key, now), job.s3_key)

    def _size(self, key: str, now: float) -> int:
        known = self._sizes.get(key)
        if known is None or known[1] < now:
            known = self._sizes[key] = (self._s3.size(key), now + SIZE_HOLDS_S)
        return known[0]
