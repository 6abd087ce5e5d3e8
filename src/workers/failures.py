"""Workers that take jobs from queues, and what happens to a job after each kind of failure.

- Retryable error: the job waits and is tried again, up to MAX_ATTEMPTS times. Then it becomes a dead letter.
- Permanent error: the job becomes a dead letter at once.
- Operator error: the job goes back to its queue without losing an attempt, and the worker is held.
- Out of memory on the device, although it has room for other jobs: like a retryable error. (When it has room for no
  job, the GPU worker raises an operator error.)
- A job that three workers died with becomes a dead letter and is not processed again.
"""

from __future__ import annotations

import logging
import random
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence

from errors import DeviceMemoryError, OperatorError, PermanentError, PipelineError
from jobs import dead_letters
from jobs.job_queue import Claim, ClipRef, Settled
from utils import event
from workers.base import StopRequestedError, Worker

log = logging.getLogger(__name__)

MAX_INTERRUPTIONS = 3  # a job that this many workers died with is not processed again
MAX_RETRY_S = 600.0
BUSY_RETRY_S = 10.0  # pause before a job is tried again that another process of this host blocks


class BusyError(PipelineError):
    """Another process blocks the job. The job runs again a little later and loses no attempt."""


class QueueWorker(Worker):
    """A worker that sorts the failures of its jobs."""

    @abstractmethod
    def clip_of(self, claim: Claim) -> ClipRef | None:
        """The clip of the job, or None if the job is a whole archive or its payload cannot be read."""

    def on_given_up(self, claim: Claim, clip: ClipRef | None, error: PipelineError) -> str | None:
        """Record that the job is given up, before it is settled -> the S3 key of the parked clip, or None."""

    def done(self, claim: Claim, clip: ClipRef | None = None) -> Settled:
        """Acknowledge a job whose results are committed."""
        return self._settle(claim, clip, None)

    def hand_back(self, claim: Claim) -> None:
        """Put the job back at the head of its queue; no attempt is spent."""
        if not self.queue.hand_back(claim):
            self.say_not_ours(claim)

    def attempt(self, claim: Claim, action: Callable[[], None]) -> bool:
        """Do the job, or a part of it -> whether this succeeded. After a failure the worker has let go of the job.

        Raises
        ------
        OperatorError
            The failure is not the job's. The job is still claimed: the caller hands it back.
        """
        try:
            action()
        except DeviceMemoryError as error:  # an OperatorError, but of one job: see the top of this file
            self._retry_or_give_up(claim, error)
        except OperatorError:
            raise
        except StopRequestedError:
            self.until_redis_answers(lambda: self.hand_back(claim))
            event(log, logging.INFO, "job handed back", queue=claim.queue)
        except BusyError as error:
            self.queue.retry_later(claim, BUSY_RETRY_S, failed=False)
            event(log, logging.INFO, "job put off", queue=claim.queue, reason=error, again_in_s=BUSY_RETRY_S)
        except PermanentError as error:
            self._give_up(claim, error)
        except PipelineError as error:
            self._retry_or_give_up(claim, error)
        except Exception as error:  # a bug must cost one job its attempts, not end the worker
            log.exception("unexpected error; please report it with these lines")
            self._retry_or_give_up(claim, PipelineError(f"{type(error).__name__}: {error}"))
        else:
            return True
        return False

    def _retry_or_give_up(self, claim: Claim, error: PipelineError) -> None:
        attempt = claim.failures + 1
        if attempt >= self.settings.max_attempts:
            self._give_up(claim, error)
            return
        # A random factor between 0.5 and 1, so that jobs that failed together do not come back together.
        delay_s = min(self.settings.retry_base_s * 2**claim.failures, MAX_RETRY_S) * random.uniform(0.5, 1)  # noqa: S311
        self.queue.retry_later(claim, delay_s, failed=True)
        event(
            log,
            logging.WARNING,
            "job failed; it is tried again",
            **self._facts(claim),
            attempt=f"{attempt}/{self.settings.max_attempts}",
            again_in_s=delay_s,
            reason=error,
        )

    def _give_up(self, claim: Claim, error: PipelineError) -> None:
        clip = self.clip_of(claim)
        try:
            # If the job is no longer ours (its batch was cancelled or started again), it did not fail.
            parked = self.on_given_up(claim, clip, error) if self.queue.owns(claim) else None
        except OperatorError:
            raise
        except Exception:  # a dead letter without a parked clip is better than a job that ends every worker
            log.exception("a job that is given up could not be recorded or parked; please report it with these lines")
            parked = None
        letter = dead_letters.write(claim, error, worker=self.name, clip=clip, parked=parked)
        if self._settle(claim, clip, letter) == "lost":
            return
        event(
            log,
            logging.ERROR,
            "job given up; it is in queue:failed",
            **self._facts(claim),
            attempts=claim.failures + 1,
            reason=error,
        )

    def _settle(self, claim: Claim, clip: ClipRef | None, letter: bytes | None) -> Settled:
        answer = self.until_redis_answers(lambda: self.queue.settle(claim, clip=clip, dead_letter=letter))
        if answer == "lost":
            self.say_not_ours(claim)
        return answer

    def say_not_ours(self, claim: Claim) -> None:
        """Log that another outcome counts.

        This worker seemed dead (was it paused?) and another one has the job, or its batch was cancelled or requeued, or
        the job was settled or handed back and only the reply was lost.
        """
        event(log, logging.WARNING, "job no longer belongs to this worker; not counted again", **self._facts(claim))

    def _facts(self, claim: Claim) -> dict[str, str | None]:
        clip = self.clip_of(claim)
        return {
            "queue": claim.queue,
            "batch": clip.batch_id if clip else None,
            "clip": clip.clip if clip else None,
            "payload": None if clip else claim.payload[:300].decode("utf-8", "backslashreplace"),
        }


class JobWorker(QueueWorker):
    """A worker that does one job at a time."""

    @property
    @abstractmethod
    def queues(self) -> Sequence[str]:
        """The queues that this worker serves, in order of preference."""

    @abstractmethod
    def process(self, claim: Claim) -> None:
        """Do the job and acknowledge it (`self.done`); raises a PipelineError when this fails."""

    def next_claim(self) -> Claim | None:
        """Claim the next job; None when there is none, or none that this worker may take now."""
        return self.queue.claim(self.queues)

    def step(self) -> bool:
        claim = self.next_claim()
        if claim is None:
            return False
        self.heartbeat.set("working", claim.payload[:200].decode("utf-8", "replace"))
        started = time.monotonic()
        try:
            self.attempt(claim, lambda: self._refuse_or_process(claim))
        except OperatorError:
            self.until_redis_answers(lambda: self.hand_back(claim))
            raise
        self.went_well()
        event(log, logging.DEBUG, "job finished", queue=claim.queue, took_s=time.monotonic() - started)
        return True

    def _refuse_or_process(self, claim: Claim) -> None:
        refuse_killers(claim)
        self.process(claim)


def refuse_killers(claim: Claim) -> None:
    """Raise PermanentError for a job that too many workers died with."""
    if claim.interruptions >= MAX_INTERRUPTIONS:
        raise PermanentError(
            f"{claim.interruptions} workers died during this job, so it is not tried again; see their last log lines "
            "(out of memory?), then retry it or drop it"
        )
