"""A worker that keeps many clips in hand: when each step of a clip begins, and when clips go back to their queues.

What the steps do is in `gpu_worker.py`; the books are in `clips_in_hand.py`. The main thread runs `step` again and
again. Each round claims what there is room for, begins what can begin, waits a little, and takes each clip whose step
is over to the next. Only the main thread uses Redis and Postgres.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from config import Settings
from errors import ConfigError, OperatorError, ServiceUnavailableError
from jobs.job_queue import Claim
from system.memory import gib, used_bytes
from system.service_manager import Watchdog
from utils import event
from workers.base import IDLE_POLL_S, RestartNeededError
from workers.clips_in_hand import NOT_BEGUN, ClipInHand, ClipsInHand, Judged, first_group
from workers.device_thread import DeviceThread
from workers.failures import QueueWorker, refuse_killers

log = logging.getLogger(__name__)

UPLOADS = 4  # at a time: a service may take a tenth of a second for each, however small


class ManyClipsWorker(QueueWorker):
    device: DeviceThread

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.hand = ClipsInHand(settings.clips_in_hand)
        self.watchdog = Watchdog(self.hand.hang)
        threads = settings.prepare_threads or len(os.sched_getaffinity(0))
        self.preparers = ThreadPoolExecutor(threads, "prepare")
        self.uploaders = ThreadPoolExecutor(UPLOADS, "upload")
        self._most_preparing = 2 * threads  # for each thread, one that runs and one that waits
        # A group is at most half of what is in hand, so that the next one is prepared meanwhile. It holds at most as
        # much audio as one clip may have: no call to the models takes longer than one for the longest clip.
        self._group_clips = (settings.clips_in_hand + 1) // 2
        self._group_audio_s = settings.max_clip_s
        self._groups = 0  # that this process has begun
        self._too_large = False  # this process has grown beyond its limit

    @abstractmethod
    def take(self, claim: Claim) -> ClipInHand | None:
        """Read the job -> its clip; None for a job that is no clip's, which has been done."""

    @abstractmethod
    def begin(self, clip: ClipInHand) -> None:
        """Begin to prepare the clip in a thread, or acknowledge it when there is nothing to do."""

    @abstractmethod
    def fetched(self, clip: ClipInHand) -> None:
        """The clip's file is there, whether it could be prepared or not."""

    @abstractmethod
    def judged(self, clip: ClipInHand, found: Judged) -> None:
        """The device has done the clip: begin its upload, or store its results."""

    @abstractmethod
    def uploaded(self, clip: ClipInHand, found: Any) -> None:
        """The upload is over: store the clip's results."""

    def step(self) -> bool:
        if self._too_large:
            return self._end_this_process()
        self._claim()
        return self._go_on()

    def finish(self) -> bool:
        self._hand_back_what_has_not_begun()
        return self._go_on()

    def let_go(self) -> None:
        """Hand every clip back: another host may be able to do it.

        While Redis is down that is impossible, and nobody could take them. So they stay in hand, each at its step.
        """
        with contextlib.suppress(ServiceUnavailableError):
            for clip in reversed(list(self.hand)):  # each goes to the head of its queue, so that they keep their order
                self.hand_back(clip.claim)
                self.hand.remove(clip)

    def check_memory_limit(self) -> None:
        """Raise ConfigError when the limit is below what the process needs without any clip."""
        limit, used = self.settings.worker_memory_limit_bytes, used_bytes()
        if 0 < limit <= used:
            raise ConfigError(
                f"WORKER_MEMORY_LIMIT_BYTES is {limit}, but the loaded models alone take {used} bytes; set it well "
                f"above that, for example WORKER_MEMORY_LIMIT_BYTES={2 * used}, or to 0 for no limit"
            )

    def _claim(self) -> None:
        """Claim jobs while there is room for more."""
        while self.hand.has_room() and not self.stopping.is_set():
            claim = self.queue.claim(self.settings.transcribe_queues)
            if claim is None:
                break
            if claim.interruptions and self.hand:  # it must not be in hand with others: perhaps it kills its worker
                self.hand_back(claim)
                self.hand.close()
                break
            try:
                self.attempt(claim, lambda claim=claim: self._take(claim))  # type: ignore[misc]
            except OperatorError:
                self.until_redis_answers(lambda claim=claim: self.hand_back(claim))  # type: ignore[misc]
                raise
        if self.hand:
            self.heartbeat.set("working", str(self.hand))

    def _take(self, claim: Claim) -> None:
        refuse_killers(claim)
        if clip := self.take(claim):
            self.hand.add(clip)

    def _go_on(self) -> bool:
        """One round with the clips in hand -> whether any is left."""
        self._prepare_more()
        for clip in self.hand.whose_step_is_over(self._patience_s()):
            self.watchdog.feed()
            self._take_step(clip, lambda clip=clip: self._after(clip))  # type: ignore[misc]
        self._decode_more()
        return bool(self.hand)

    def _after(self, clip: ClipInHand) -> None:
        if clip.stage == "preparing":
            if clip.opus_path:
                self.fetched(clip)
            clip.prepared = clip.outcome()
            clip.goes("prepared")
        elif clip.stage == "decoding":
            self.judged(clip, clip.outcome())
        else:
            self.uploaded(clip, clip.outcome())

    def _take_step(self, clip: ClipInHand, step: Callable[[], None]) -> None:
        if not self.attempt(clip.claim, step):
            self.hand.remove(clip)

    def _prepare_more(self) -> None:
        while len(self.hand.at("preparing")) < self._most_preparing and self.hand.audio_s() < 2 * self._group_audio_s:
            clip = self.hand.next_to_begin()
            if clip is None:
                return
            self._take_step(clip, lambda clip=clip: self.begin(clip))  # type: ignore[misc]

    def _patience_s(self) -> float:
        """How long to wait for the next step that is over."""
        ready = self.hand.at("prepared")
        if not ready or self.hand.at("decoding"):
            return IDLE_POLL_S
        return max(0.0, min(IDLE_POLL_S, ready[0].stage_since + self.settings.batch_wait_s - time.monotonic()))

    def _decode_more(self) -> None:
        """Begin the next group when the device is free and the group is full, or has waited long enough."""
        ready = self.hand.at("prepared")
        if not ready or self.hand.at("decoding"):
            return
        group = first_group(ready, most=self._group_clips, audio_s=self._group_audio_s)
        full = len(group) < len(ready) or len(group) >= self._group_clips
        waited_s = time.monotonic() - min(clip.stage_since for clip in ready)
        if not full and self.hand.at("claimed", "preparing") and waited_s < self.settings.batch_wait_s:
            return
        if self._groups and 0 < self.settings.worker_memory_limit_bytes < used_bytes():
            self._too_large = True
            return
        self._groups += 1
        if ours := [clip for clip in group if self._is_still_ours(clip)]:
            self.device.begin(ours)

    def _is_still_ours(self, clip: ClipInHand) -> bool:
        """Whether the job is still this worker's: its batch may be cancelled, or this worker was taken for dead."""
        if self.queue.owns(clip.claim):
            return True
        self.queue.forget(clip.claim)
        self.hand.remove(clip)
        self.say_not_ours(clip.claim)
        return False

    def _hand_back_what_has_not_begun(self) -> None:
        waiting = self.hand.at(*NOT_BEGUN)
        for clip in reversed(waiting):  # as in `let_go`
            self.hand_back(clip.claim)
            self.hand.remove(clip)
        if waiting:
            event(log, logging.INFO, "clips handed back", clips=len(waiting), finishing=len(self.hand))

    def _end_this_process(self) -> bool:
        """Finish what is in hand, then end, so that a new process begins with little memory."""
        if self.finish():
            return True
        raise RestartNeededError(
            f"it uses {gib(used_bytes())} of memory, and WORKER_MEMORY_LIMIT_BYTES is "
            f"{gib(self.settings.worker_memory_limit_bytes)}; its clips are finished or back in their queues"
        )
