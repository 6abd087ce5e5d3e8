"""A worker that takes its work from queues: claim, process, and sort every failure.

Retryable: back-off, MAX_ATTEMPTS, then a dead letter. Permanent: a dead letter at once. Operator: handed back, nobody's
attempt is spent, the worker is held. Out of memory on the device: put off and counted, since the next job may be
smaller and go well; when three jobs in a row need more than there is, the device or the setting is to blame, no attempt
is spent any more, and the worker is held. A job whose workers died three times is quarantined without being touched
again.
"""

from __future__ import annotations

import logging
import random
import time
from abc import abstractmethod
from collections.abc import Sequence

from config import Settings
from errors import DeviceMemoryError, OperatorError, PermanentError, PipelineError
from jobs import dead_letters
from jobs.job_queue import Claim, ClipRef, Settled
from utils import event
from workers.base import StopRequestedError, Worker

log = logging.getLogger(__name__)

MAX_INTERRUPTIONS = 3  # a job that killed its worker so often is not given to another
MAX_RETRY_S = 600.0
MAX_TOO_BIG = 3  # jobs in a row that ran out of memory, none going well between: then no job is to blame
BUSY_RETRY_S = 10.0  # until another process of this host has let go of what the job needs


class BusyError(PipelineError):
    """Something else holds what the job needs; it runs again a little later, and no attempt is spent."""


class JobWorker(Worker):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._settled: Settled | None = None
        self._too_big: set[bytes] = set()  # jobs that ran out of memory since one went well

    @property
    @abstractmethod
    def queues(self) -> Sequence[str]:
        """The queues this worker serves, the preferred one first."""

    @abstractmethod
    def process(self, claim: Claim) -> None:
        """Do the job and acknowledge it (`self.done`); raises a PipelineError when it cannot be done."""

    @abstractmethod
    def clip_of(self, claim: Claim) -> ClipRef | None:
        """The clip whose failure a dead letter counts, or None: the job is a whole archive, or unreadable."""

    def on_given_up(self, claim: Claim, clip: ClipRef | None, error: PipelineError) -> str | None:
        """Record that the job is given up, before it is settled -> the S3 key where its clip is parked, if it is."""

    def next_claim(self) -> Claim | None:
        """The next job, or None when there is none, or none that this worker may take now."""
        return self.queue.claim(self.queues)

    def step(self) -> bool:
        claim = self.next_claim()
        if claim is None:
            return False
        self.heartbeat.set("working", claim.payload[:200].decode("utf-8", "replace"))
        started = time.monotonic()
        try:
            self._attempt(claim)
        except OperatorError:
            self.until_redis_answers(lambda: self.queue.hand_back(claim))
            raise
        event(log, logging.DEBUG, "job over", queue=claim.queue, took_s=time.monotonic() - started)
        return True

    def done(self, claim: Claim, clip: ClipRef | None = None) -> Settled:
        """Acknowledge a job whose results are committed."""
        return self._settle(claim, clip, None)

    def _attempt(self, claim: Claim) -> None:
        try:
            _refuse_killers(claim)
            self.process(claim)
            self._too_big.clear()
        except DeviceMemoryError as error:
            self._put_off(claim, error)
        except OperatorError:
            raise
        except StopRequestedError:
            self.until_redis_answers(lambda: self.queue.hand_back(claim))
            event(log, logging.INFO, "job handed back", queue=claim.queue)
        except BusyError as error:
            self.queue.retry_later(claim, BUSY_RETRY_S, failed=False)
            event(log, logging.INFO, "job put off", queue=claim.queue, reason=error, again_in_s=BUSY_RETRY_S)
        except PermanentError as error:
            self._give_up(claim, error)
        except PipelineError as error:
            self._retry_or_give_up(claim, error)
        except Exception as error:  # a bug must cost one job three attempts, not the daemon its life
            log.exception("unexpected error; please report it with these lines")
            self._retry_or_give_up(claim, PipelineError(f"{type(error).__name__}: {error}"))

    def _put_off(self, claim: Claim, error: DeviceMemoryError) -> None:
        """Handed back to the head, the job would be taken again at once, for ever, and no other would have its turn."""
        if len(self._too_big) < MAX_TOO_BIG:
            self._too_big.add(claim.payload)
        if len(self._too_big) < MAX_TOO_BIG:
            self._retry_or_give_up(claim, error)
            return
        self.queue.retry_later(claim, BUSY_RETRY_S, failed=False)
        raise OperatorError(f"{MAX_TOO_BIG} jobs in a row need more memory than there is: {error}") from error

    def _retry_or_give_up(self, claim: Claim, error: PipelineError) -> None:
        attempt = claim.failures + 1
        if attempt >= self.settings.max_attempts:
            self._give_up(claim, error)
            return
        # Full jitter over the upper half: jobs that failed together do not come back together.
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
            # A job that was taken from us (its batch was cancelled or begun anew, and its file is gone) did not fail.
            parked = self.on_given_up(claim, clip, error) if self.queue.owns(claim) else None
        except OperatorError:
            raise
        except Exception:  # a letter without its clip is worth more than worker after worker that dies of this job
            log.exception("a job that is given up could not be recorded or parked; please report it with these lines")
            parked = None
        letter = dead_letters.write(claim, error, worker=self.name, clip=clip, parked=parked)
        if self._settle(claim, clip, letter) == "lost":
            return
        event(
            log,
            logging.ERROR,
            "job given up; it stands in queue:failed",
            **self._facts(claim),
            attempts=claim.failures + 1,
            reason=error,
        )

    def _settle(self, claim: Claim, clip: ClipRef | None, letter: bytes | None) -> Settled:
        def settle() -> None:
            self._settled = self.queue.settle(claim, clip=clip, dead_letter=letter)

        self.until_redis_answers(settle)
        answer, self._settled = self._settled or "lost", None
        if answer == "lost":
            # Taken for dead (paused too long?): another worker has the job, and its outcome counts, not ours. Or ours
            # was counted, and only the answer was lost.
            event(log, logging.WARNING, "job is not in our hands any more; not counted again", **self._facts(claim))
        return answer

    def _facts(self, claim: Claim) -> dict[str, str | None]:
        clip = self.clip_of(claim)
        return {
            "queue": claim.queue,
            "batch": clip.batch_id if clip else None,
            "clip": clip.clip if clip else None,
            "payload": None if clip else claim.payload[:300].decode("utf-8", "backslashreplace"),
        }


def _refuse_killers(claim: Claim) -> None:
    if claim.interruptions >= MAX_INTERRUPTIONS:
        raise PermanentError(
            f"{claim.interruptions} workers died while they had this job, so it is not tried again; see their last log "
            "lines (out of memory?), then retry it or drop it"
        )
