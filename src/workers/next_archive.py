"""Choose the next archive of `queue:unpack`, because scratch may have no room for some of them now.

The first archive is taken if it fits. Otherwise the first of the next LOOK_AHEAD archives that fits is taken, so that
one large archive does not stop the fleet. An archive does not wait forever: if MAX_PASSED_BY others have passed it, or
ROOM_WAIT_S have gone by, this worker takes no archive behind it. Scratch then empties as batches end, until the large
archive fits. An archive that does not fit even on an empty scratch, because of other files on the volume, is given up
when this has lasted for ROOM_WAIT_S. An archive that is larger than the volume is given up at once.

Each worker keeps its own counts, because each host has its own scratch; a restart resets them. A job that an operator
pushes to the head of the queue (LPUSH) is before the waiting archive, so it is taken first.
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

LOOK_AHEAD = 50  # jobs that are checked; each costs one request to S3 per minute
MAX_PASSED_BY = 5  # about as many archives as most hosts work on at a time; they end within minutes
SIZE_HOLDS_S = 60.0  # time for which a size is kept; after it, a replaced archive is noticed


@dataclass
class _Waiting:
    """An archive that does not fit now."""

    since: float  # monotonic seconds
    passed_by: int = 0  # archives behind this one that were taken
    too_large_since: float | None = None  # since when it would not fit even on an empty scratch


class NextArchive:
    def __init__(self, scratch_root: Path, s3: ObjectStore, wait_s: float) -> None:
        self._root = scratch_root
        self._s3 = s3
        self._wait_s = wait_s
        self._too_large: bytes | None = None  # the chosen job, if it was chosen to be given up
        self._waiting: dict[bytes, _Waiting] = {}
        self._passed: list[bytes] = []  # the jobs before the chosen one
        self._sizes: dict[str, tuple[int, float]] = {}  # by key: bytes, and the time until which they are kept

    def choose(self, jobs: Sequence[bytes]) -> tuple[bytes | None, str]:
        """Choose a job -> (job, ""), or (None, reason); raises OperatorError when S3 or scratch does not answer."""
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
            problem = f"{lasting} (the job is given up when this has lasted for ROOM_WAIT_S)" if lasting else problem
            reason = reason or problem
            self._passed.append(job)
            # An archive that does not fit even on an empty scratch does not stop others: it is given up soon.
            if not lasting and (waiting.passed_by >= MAX_PASSED_BY or now - waiting.since >= self._wait_s):
                ahead = f"no archive behind it is taken now, because {waiting.passed_by} archives have passed it"
                return None, problem if len(jobs) == 1 else f"{problem}; {ahead}"
        return None, reason

    def gives_up(self, job: bytes) -> bool:
        """Whether the job was chosen because it has been too large for this host for ROOM_WAIT_S."""
        return job == self._too_large

    def taken(self, job: bytes) -> None:
        """Record that the chosen job was claimed, and count it for each job that it has passed."""
        for passed in self._passed:
            if passed in self._waiting:
                self._waiting[passed].passed_by += 1
        self._waiting.pop(job, None)
        self._sizes.clear()  # so that a wrong size is not used again

    def _room_problem(self, payload: bytes, now: float) -> str:
        """Why scratch cannot hold the archive now, or ''. Other problems of a job are found when it is processed."""
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
