"""Services and a few workers for a test of one fault, and the checks after the fault."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from local.services import Services
from tests.reliability.world import WorkerProcess, World
from tests.workers.processes import wait_until

CLIPS = range(8)  # a small batch, none of them broken
TTL_S = 1.5
# Each says that a job is blamed for a failure. Faults of services and hosts blame none.
BLAME = ("job failed; it is tried again", "job given up", "unexpected error")


class Scene(World):
    def __init__(self, root: Path, services: Services, *, ttl_s: float = TTL_S, **more: str) -> None:
        super().__init__(root, services, ttl_s=ttl_s, **more)
        self.workers: list[WorkerProcess] = []

    def start(self, kind: str, **more: str) -> WorkerProcess:
        """Start a worker; it may not be ready yet when this returns."""
        started = self.worker(kind, len(self.workers), **more)
        self.workers.append(started)
        return started

    def wait_for(self, worker: WorkerProcess, words: str, times: int = 1) -> None:
        """Wait until the worker's log has these words; fails at once when the worker ends without them."""

        def said() -> bool:
            return worker.log.read_text().count(words) >= times

        wait_until(lambda: said() or not worker.running, f"{words!r} in the log of {worker.kind}")
        assert said(), f"{worker.kind} ended without {words!r}:\n{worker.log.read_text()}"

    def processed(self, batch_id: str) -> int:
        return int(self.redis.get(f"batch:{batch_id}:processed") or 0)

    def wait_processed(self, batch_id: str, clips: int) -> None:
        wait_until(lambda: self.processed(batch_id) >= clips, f"{clips} clips of {batch_id} to be counted")

    def held(self, worker: WorkerProcess, reason: str) -> None:
        """Wait until the worker is held for this reason; no attempt must be counted, and no dead letter written."""

        def said() -> bool:
            return any("held: not claiming" in line and reason in line for line in worker.log.read_text().splitlines())

        try:
            wait_until(said, f"{worker.kind} to be held with {reason!r}")
        except AssertionError as error:
            error.add_note(worker.log.read_text())
            raise
        assert self.redis.hlen("queue:attempts") == 0
        assert self.redis.llen("queue:failed") == 0

    def over(self, clips_by_batch: dict[str, Sequence[int]]) -> bool:
        done = self.complete()
        return all(done.get(batch_id) for batch_id in clips_by_batch) and not self.redis.keys("batch*")

    def ends_well(self, clips_by_batch: dict[str, Sequence[int]]) -> None:
        """Wait for the batches, stop the workers, and check that every clip has one right result and nothing is left.

        Also check that no job lost an attempt because of the fault.
        """
        wait_until(lambda: self.over(clips_by_batch), f"{sorted(clips_by_batch)} to be over", within_s=60)
        wait_until(lambda: not self.busy(), "the last acknowledgements, and scratch to be swept")
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        assert [worker.wait() for worker in self.workers] == [0] * len(self.workers)
        accounts = self.accounts(clips_by_batch)
        assert accounts.problems == []
        assert (accounts.lost, accounts.doubled) == (0, 0)
        lines = self.lines()
        for batch_id in clips_by_batch:
            assert sum("batch complete " in line and f"batch={batch_id} " in line for line in lines) == 1
        assert [line for line in lines if any(word in line for word in BLAME)] == []

    def lines(self) -> list[str]:
        return [line for worker in self.workers for line in worker.log.read_text().splitlines()]

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        super().close()


@contextlib.contextmanager
def scene(root: Path, services: Services, *, ttl_s: float = TTL_S, **more: str) -> Iterator[Scene]:
    opened = Scene(root, services, ttl_s=ttl_s, **more)
    try:
        yield opened
    finally:
        opened.close()
