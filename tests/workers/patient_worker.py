"""A worker whose jobs take as long as a test wants. Only the job is not real.

    {"lock_s": 5}     holds Python's lock in native code for 5 seconds, as loading a model may
    {"until": "key"}  waits until Redis has that key, and ignores signals meanwhile

It counts its looks for a job in `test:looks`, so that a test can tell "looked, and took nothing" from "did not look".
"""

from __future__ import annotations

import ctypes
import json
import logging
import threading

from jobs.job_queue import Claim, ClipRef
from tests.workers.processes import wait_until
from utils import event
from workers.base import main
from workers.failures import JobWorker

log = logging.getLogger(__name__)

TICK_S = 0.02
PATIENCE_S = 600.0  # longer than any test lets it wait


class PatientWorker(JobWorker):
    kind = "patient"
    queues = ("queue:patient",)

    def check_dependencies(self) -> None:
        """It has none."""

    def next_claim(self) -> Claim | None:
        self.redis.incr("test:looks")
        return super().next_claim()

    def clip_of(self, claim: Claim) -> ClipRef | None:  # noqa: ARG002 -- its jobs belong to no batch
        return None

    def process(self, claim: Claim) -> None:
        job = json.loads(claim.payload)
        if "lock_s" in job:
            _hold_pythons_lock(int(job["lock_s"]))
        else:
            wait_until(lambda: self.redis.exists(job["until"]), job["until"], PATIENCE_S)
        self.done(claim)


def _hold_pythons_lock(seconds: int) -> None:
    """Log how often another thread ran meanwhile, to show that the lock was held."""
    turns, over = [0], threading.Event()

    def count() -> None:
        while not over.wait(TICK_S):
            turns[0] += 1

    threading.Thread(target=count, daemon=True).start()
    before = turns[0]
    ctypes.PyDLL(None).sleep(seconds)  # PyDLL, unlike CDLL, keeps the lock
    during = turns[0] - before
    over.set()
    event(log, logging.INFO, "lock held", seconds=seconds, turns_of_others=during)


if __name__ == "__main__":
    main(PatientWorker)
