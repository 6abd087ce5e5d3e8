"""The base of all workers: start, loop, hold, stop.

Start: the worker reads the settings, waits until the services that it needs answer, writes its heartbeat and begins to
work. A wrong setting, model or policy ends the program at once with exit code 78 and one sentence, because waiting does
not help. The worker waits for a service that is down.

Loop: `step()` does one piece of work, or returns False when there is none. An OperatorError holds the worker: it stops
claiming, reports the reason, tries again after growing pauses, and continues by itself. No job loses an attempt.
Under systemd (Type=notify) the worker reports when it is ready. It feeds the watchdog while it is idle, and whenever
work makes progress: at every request to S3 and every piece of a body, every piece of an archive, every clip, every
removed file. Each step must feed the watchdog within WatchdogSec=, or systemd kills the worker; a job that loses three
workers this way becomes a dead letter.

Stop: after the first SIGTERM or SIGINT the worker finishes what is in hand, or stops at the next safe point. After
STOP_TIMEOUT_S, or at a second signal, it hands its jobs back to their queues and exits at once. The jobs of a killed
worker run again when its heartbeat has expired: see `JobQueue.reap`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FrameType
from typing import ClassVar, TypeVar

from config import Settings, load_settings
from errors import ConfigError, ModelError, OperatorError, PipelineError, PolicyError, ServiceUnavailableError
from jobs.draining import drained_by
from jobs.job_queue import JobQueue, WorkerName
from monitoring.redis_checks import check_redis
from system.service_manager import Watchdog, notify
from utils import configure_logging, event, get_redis_client
from workers.heartbeat import Heartbeat, HeartbeatLostError, State

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

EXIT_LOST = 1  # systemd starts the worker again
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: systemd does not restart the worker
IDLE_POLL_S = 0.25  # pause between two looks at empty queues: a person who injects a job need not wait
HOUSEKEEPING_S = 1.0  # pause between two rounds of housekeeping, which also moves due jobs out of queue:delayed
REAPS_PER_TTL = 6  # searches for dead workers: a job runs again within 7/6 of HEARTBEAT_TTL_S, 70 s by default
IDLE_CHECK_S = 30.0  # pause between two checks of the services while there is no work
HOLD_S = (2.0, 60.0)  # shortest and longest pause of a held worker


class StopRequestedError(Exception):
    """Raised at a safe point inside a long job when the worker is asked to stop; the job goes back to its queue."""


class RestartNeededError(PipelineError):
    """This process has to end although nothing is wrong with its jobs; systemd starts a new one."""


class Worker(ABC):
    kind: ClassVar[str]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = WorkerName.of_this_process(settings.host)
        self.redis = get_redis_client(settings)
        self.queue = JobQueue(self.redis, self.name)
        self.heartbeat = Heartbeat(settings, self.name, self.kind)
        self.stopping = threading.Event()
        self.watchdog = Watchdog()
        self._hold_s = HOLD_S[0]
        self._drained_by: str | None = None
        self._next_housekeeping = 0.0
        self._next_reap = 0.0
        self._idle_check_s = min(IDLE_CHECK_S, settings.heartbeat_ttl_s)
        self._next_idle_check = time.monotonic() + self._idle_check_s

    @abstractmethod
    def check_dependencies(self) -> None:
        """Check every service that this worker needs besides Redis; raises OperatorError with one sentence."""

    @abstractmethod
    def step(self) -> bool:
        """Do one piece of work; False when there was none."""

    def finish(self) -> bool:
        """Go on with jobs that are in hand between two steps, and begin no others; False when none is in hand.

        Called instead of `step` while the worker is drained and after a stop signal.
        """
        return False

    def let_go(self) -> None:  # noqa: B027 -- most workers have nothing in hand between two steps
        """Hand back the jobs in hand, because this worker is about to be held."""

    def idle_state(self) -> tuple[State, str]:
        """The state and its explanation while `step` finds no work."""
        return "idle", ""

    def check_while_idle(self) -> None:  # noqa: B027 -- stand-ins of the tests need no service
        """Check the services that the next job will need, so that a worker that could do nothing is held, not idle."""

    def prepare(self) -> None:  # noqa: B027 -- most workers have nothing to load
        """Load the models, and remove leftovers of an earlier process. Runs once."""

    def housekeeping(self) -> None:  # noqa: B027 -- some workers have none
        """Do small regular tasks, besides those of the queue."""

    def run(self) -> None:
        """Work until asked to stop."""
        event(log, logging.INFO, "starting", kind=self.kind, host=self.name.host, pid=self.name.pid)
        try:
            self._when_possible(self._begin)
            while not self.stopping.is_set():
                self._when_possible(self._work_or_wait)
            self._leave()
        except HeartbeatLostError:
            with contextlib.suppress(OperatorError):  # the jobs did not kill this worker: no interruption is counted
                self.queue.hand_back_all()
            raise
        finally:
            self.heartbeat.stop()
            event(log, logging.INFO, "stopped")

    def stop_if_asked(self) -> None:
        """A safe point inside a long job: feeds the watchdog, and raises StopRequestedError after a stop signal."""
        self.watchdog.feed()
        if self.stopping.is_set():
            raise StopRequestedError

    def until_redis_answers(self, action: Callable[[], Answer]) -> Answer:
        """Repeat `action` until Redis answers, so that finished work is not lost for want of an acknowledgement."""
        while True:
            try:
                return action()
            except ServiceUnavailableError as error:
                event(log, logging.WARNING, "waiting for Redis to acknowledge a job", reason=error)
                self.watchdog.feed()
                time.sleep(HOLD_S[0])

    def went_well(self) -> None:
        """Note that a piece of work has succeeded: feeds the watchdog, and the next hold begins with a short pause."""
        self.watchdog.feed()
        self._hold_s = HOLD_S[0]

    def _begin(self) -> None:
        for remark in check_redis(self.redis):
            event(log, logging.WARNING, "Redis could be safer", remark=remark)
        self.check_dependencies()
        self.prepare()
        self.heartbeat.start()
        self.heartbeat.set("idle")
        self.watchdog.starting = False
        notify("READY=1")
        event(log, logging.INFO, "ready")

    def _work_or_wait(self) -> None:
        self.heartbeat.check()
        self._housekeep()
        drained = self._drained()
        if self.finish() if drained else self.step():
            return
        self.watchdog.feed()
        if not drained:
            if time.monotonic() >= self._next_idle_check:
                self._next_idle_check = time.monotonic() + self._idle_check_s
                self.check_while_idle()
            self.heartbeat.set(*self.idle_state())
        self.stopping.wait(IDLE_POLL_S)

    def _leave(self) -> None:
        """Bring the jobs in hand to an end after a stop signal."""
        try:
            while self.finish():
                self.heartbeat.check()
        except OperatorError as error:
            event(log, logging.WARNING, "jobs in hand are handed back, because they cannot be finished", reason=error)
            self.until_redis_answers(self.queue.hand_back_all)

    def _drained(self) -> bool:
        """Whether an operator has drained this worker. Logs when this changes."""
        asked = drained_by(self.redis, self.name)
        if asked and not self._drained_by:
            event(log, logging.INFO, "drained: claiming no jobs until resumed", by=asked)
        if self._drained_by and not asked:
            event(log, logging.INFO, "resumed: claiming jobs again")
        self._drained_by = asked
        if asked:
            self.heartbeat.set("draining", f"drained by {asked}; to end this: audio-pipeline worker resume")
        return asked is not None

    def _housekeep(self) -> None:
        now = time.monotonic()
        if now >= self._next_housekeeping:
            self.queue.promote_due()
            self.housekeeping()
            self._next_housekeeping = now + HOUSEKEEPING_S
        if now >= self._next_reap:
            pause_s = self.settings.heartbeat_ttl_s / REAPS_PER_TTL
            for worker, queue, jobs in self.queue.reap(lease_s=pause_s):
                event(log, logging.WARNING, "a worker died; its jobs run again", dead=worker, queue=queue, jobs=jobs)
            self._next_reap = now + pause_s / 2

    def _when_possible(self, action: Callable[[], None]) -> None:
        """Run `action`. After an OperatorError, hold the worker for a while and try again."""
        while not self.stopping.is_set():
            try:
                action()
                return
            except (ConfigError, ModelError, PolicyError):
                raise
            except OperatorError as error:
                self.let_go()
                self._hold(error)

    def _hold(self, error: OperatorError) -> None:
        event(log, logging.WARNING, "held: not claiming until this is solved", reason=error, again_in_s=self._hold_s)
        self.heartbeat.set("held", str(error))
        self.watchdog.feed()
        notify(f"EXTEND_TIMEOUT_USEC={int((2 * self._hold_s + 60) * 1e6)}")  # waiting is not a failed start
        self.stopping.wait(self._hold_s)
        self._hold_s = min(2 * self._hold_s, HOLD_S[1])


def main(worker_class: type[Worker]) -> None:
    """Run a worker as a program. Exit code 0 after a stop, 78 when a setting, model or policy is wrong."""
    configure_logging(worker_class.kind)
    try:
        worker = worker_class(load_settings())
        _install_signal_handlers(worker)
        worker.run()
    except (ConfigError, ModelError, PolicyError) as error:
        log.critical("%s", error)
        sys.exit(EXIT_CONFIG)
    except HeartbeatLostError as error:
        log.critical("exiting, so that systemd starts this worker again: %s", error)
        sys.exit(EXIT_LOST)
    except RestartNeededError as error:
        log.warning("exiting, so that systemd starts this worker again: %s", error)
        sys.exit(EXIT_LOST)


def _install_signal_handlers(worker: Worker) -> None:
    def leave_now(reason: str) -> None:
        try:
            returned = worker.queue.hand_back_all()
        except OperatorError:
            returned = 0  # Redis is down: when the heartbeat has expired, another worker gets the jobs
        event(log, logging.WARNING, "exiting at once", reason=reason, jobs_handed_back=returned)
        os._exit(0)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if worker.stopping.is_set():
            # In a thread: this signal handler may have interrupted a call to Redis.
            threading.Thread(target=leave_now, args=(f"second {name}",), daemon=True).start()
            return
        event(log, logging.INFO, "stopping: finishing what is in hand", signal=name)
        notify("STOPPING=1")
        worker.stopping.set()
        worker.heartbeat.set("draining")
        timer = threading.Timer(worker.settings.stop_timeout_s, leave_now, args=("STOP_TIMEOUT_S is over",))
        timer.daemon = True
        timer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
