"""Random signals against a busy pipeline: nothing may be lost, nothing counted twice.

    PYTHONPATH=src:. python -m tests.reliability.chaos --seed 1 --clips 1000

Archives of tones appear on the ssh host. Two transfer, two unpack and three GPU workers process them (only the two
models are stand-ins). Every 0.2 to 2 s one worker gets SIGKILL, SIGTERM, or SIGSTOP for longer than the heartbeat lives
and then SIGCONT. A worker that has ended is started again at once, as systemd does. An operator retries jobs that were
quarantined because their workers died. At the end the outcome of every clip is checked.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from jobs.dead_letters import DeadLetters
from local.services import Services
from tests.reliability.tones import write_archive
from tests.reliability.world import Accounts, WorkerProcess, World

FLEET = ("transfer", "transfer", "unpack", "unpack", "gpu", "gpu", "gpu")
TTL_S = 3.0
PAUSE_S = (0.2, 2.0)
ZOMBIE_S = (1.5 * TTL_S, 2.5 * TTL_S)
CLIPS_PER_BATCH = 100
LOOK_S = 0.05

Credentials = Callable[[str], Mapping[str, str]]  # kind of worker -> settings


@dataclass
class Report:
    seed: int
    accounts: Accounts
    seconds: float = 0.0
    kills: int = 0
    terms: int = 0
    zombies: int = 0
    restarts: int = 0
    brought_back: int = 0  # quarantined jobs that the operator retried
    recoveries_s: list[float] = field(default_factory=list)  # from a worker's death until its job was taken again

    @property
    def good(self) -> bool:
        return not (self.accounts.problems or self.accounts.lost or self.accounts.doubled)

    def summary(self) -> dict[str, Any]:
        times = sorted(self.recoveries_s)
        return {
            "seed": self.seed,
            "clips": self.accounts.clips,
            "seconds": round(self.seconds, 1),
            "kills": self.kills,
            "terms": self.terms,
            "zombies": self.zombies,
            "restarts": self.restarts,
            "quarantined and retried": self.brought_back,
            "done": self.accounts.done,
            "failed": self.accounts.failed,
            "lost": self.accounts.lost,
            "doubled": self.accounts.doubled,
            "recovery p50/p99/max (s)": "/".join(f"{percentile(times, share):.1f}" for share in (0.5, 0.99, 1.0)),
            "jobs recovered": len(times),
        }


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Observer(threading.Thread):
    """Watches the counters of every batch, and how long a dead worker's jobs wait."""

    def __init__(self, world: World) -> None:
        super().__init__(name="observer", daemon=True)
        self.world = world
        self.problems: list[str] = []
        self.recoveries_s: list[float] = []
        self._orphans: dict[tuple[str, bytes], float] = {}
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            self._batches()
            self._recoveries()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def died(self, worker: int, at: float) -> None:
        """Record the jobs that a killed worker held."""
        for key in cast("list[bytes]", self.world.redis.keys(f"inflight:*:{worker}:*")):
            queue = key.decode().removeprefix("inflight:").rsplit(":", 3)[0]
            for payload in cast("list[bytes]", self.world.redis.lrange(key, 0, -1)):
                self._orphans[queue, payload] = at

    def _recoveries(self) -> None:
        for (queue, payload), since in list(self._orphans.items()):
            holders = [key.decode() for key in cast("list[bytes]", self.world.redis.keys(f"inflight:{queue}:*"))]
            dead = [key for key in holders if payload in cast("list[bytes]", self.world.redis.lrange(key, 0, -1))]
            waiting = self.world.redis.lpos(queue, cast("str", payload)) is not None
            alive = [key for key in dead if self.world.redis.exists("worker:" + ":".join(key.split(":")[-3:]))]
            if alive or not (dead or waiting):  # taken by a living worker, or done already
                self.recoveries_s.append(time.monotonic() - since)
                self._orphans.pop((queue, payload), None)

    def _batches(self) -> None:
        for key in cast("list[bytes]", self.world.redis.keys("batch:*:total")):
            batch = key.decode().removesuffix(":total")
            with self.world.redis.pipeline(transaction=True) as pipe:
                pipe.mget(f"{batch}:total", f"{batch}:processed", f"{batch}:failed")
                pipe.scard(f"{batch}:pending")
                (total, processed, failed), pending = pipe.execute()
            if total is not None and int(processed) + int(failed) + int(pending) != int(total):
                self.problems.append(f"{batch}: {processed} + {failed} + {pending} is not {total}")


class Chaos:
    def __init__(self, world: World, rng: random.Random, report: Report, credentials: Credentials) -> None:
        self.world = world
        self.rng = rng
        self.report = report
        self.fleet = [world.worker(kind, number, **credentials(kind)) for number, kind in enumerate(FLEET)]
        self.observer = Observer(world)
        self._waking: list[tuple[float, WorkerProcess, bool]] = []
        self._letters = DeadLetters(world.redis, world.scratch)

    def until(self, batches: int, within_s: float) -> None:
        """Send signals to the workers until this many batches are complete."""
        self.observer.start()
        deadline = time.monotonic() + within_s
        while list(self.world.complete().values()).count(True) < batches:
            if time.monotonic() > deadline:
                self.report.accounts.problems.append(f"not complete in {within_s:.0f} s: {self.world.complete()}")
                break
            threading.Event().wait(self.rng.uniform(*PAUSE_S))
            self._harm(self.rng.choice(self.fleet))
            self._wake(time.monotonic())
            self._restart_the_dead()
            self._operator()

    def end(self) -> None:
        """Continue all paused workers, wait until all work is done, and stop the workers as systemd does."""
        self._wake(float("inf"))
        self._restart_the_dead()
        self._wait_for_rest()
        for worker in self.fleet:
            worker.signal(signal.SIGTERM)
        for worker in self.fleet:
            code = worker.wait()
            if code not in {0, -signal.SIGTERM}:  # the latter while it was still starting
                self.report.accounts.problems.append(f"a {worker.kind} worker ended with {code}")
        self.observer.stop()
        self.report.accounts.problems += sorted(set(self.observer.problems))
        self.report.recoveries_s = self.observer.recoveries_s

    def kill_all(self) -> None:
        for worker in self.fleet:
            worker.kill()

    def _harm(self, worker: WorkerProcess) -> None:
        if worker.stopped or not worker.running:
            return
        group = self.rng.random() < 0.5  # with the heartbeat's process, or without
        action = self.rng.random()
        if action < 0.5:
            self.report.kills += 1
            worker.signal(signal.SIGKILL, group=group)
            worker.wait()
            self.observer.died(worker.pid, time.monotonic())
        elif action < 0.75:
            self.report.terms += 1
            worker.signal(signal.SIGTERM)
        else:
            self.report.zombies += 1
            worker.signal(signal.SIGSTOP, group=group)
            worker.stopped = True
            self._waking.append((time.monotonic() + self.rng.uniform(*ZOMBIE_S), worker, group))

    def _wake(self, now: float) -> None:
        for entry in [entry for entry in self._waking if entry[0] <= now]:
            _, worker, group = entry
            worker.signal(signal.SIGCONT, group=group)
            worker.stopped = False
            self._waking.remove(entry)

    def _restart_the_dead(self) -> None:
        for worker in self.fleet:
            if not worker.running:
                worker.start()
                self.report.restarts += 1

    def _operator(self) -> None:
        """Retry the jobs that were quarantined because their workers were killed."""
        for raw in self._letters:
            letter = self._letters.parse(raw)
            if "workers died" in letter.error and self._letters.retry(letter):
                self.report.brought_back += 1

    def _wait_for_rest(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self._operator()
            if not self.world.busy():
                return
            threading.Event().wait(0.2)


def run(
    root: Path, services: Services, *, seed: int, clips: int, within_s: float, credentials: Credentials = lambda _: {}
) -> Report:
    """Run once, on services that are started -> the report. `credentials` holds settings for each kind of worker."""
    report = Report(seed, Accounts())
    world = World(root, services, ttl_s=TTL_S)
    sizes = [min(CLIPS_PER_BATCH, clips - start) for start in range(0, clips, CLIPS_PER_BATCH)]
    archives = services.ssh.archives
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir(parents=True)
    for number, size in enumerate(sizes):
        write_archive(archives / f"2026-01-01_{number:02d}-{seed % 60:02d}.tar", size)
    chaos = Chaos(world, random.Random(seed), report, credentials)  # noqa: S311 -- to be repeated, not to be secret
    began = time.monotonic()
    try:
        chaos.until(len(sizes), within_s)
        chaos.end()
    finally:
        chaos.kill_all()
    report.seconds = time.monotonic() - began
    names = world.query("SELECT batch_id, original_filename FROM batches")
    by_batch = {batch_id: range(sizes[int(name[11:13])]) for batch_id, name in names}
    problems = report.accounts.problems
    report.accounts = world.accounts(by_batch)
    report.accounts.problems += problems
    if len(by_batch) != len(sizes):
        report.accounts.problems.append(f"{len(sizes)} archives became {len(by_batch)} batches")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="so many runs with seeds that follow each other")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--within", type=float, default=1200, help="seconds that a run may take")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this folder")
    arguments = parser.parse_args()
    bad = 0
    root = arguments.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    with Services(root / "services", durable=False) as services:
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            report = run(root / f"run-{seed}", services, seed=seed, clips=arguments.clips, within_s=arguments.within)
            print(json.dumps(report.summary(), ensure_ascii=False), flush=True)
            for problem in report.accounts.problems:
                print(f"  PROBLEM {problem}", flush=True)
            bad += not report.good
    if not arguments.keep:
        shutil.rmtree(root, ignore_errors=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
