"""How long a dead worker's job waits, with the settings that a fleet has by default.

    PYTHONPATH=src:. python -m tests.reliability.recovery_times --workers 16

Each worker is killed at a random moment while it holds a clip: one half together with the process that renews their
heartbeat (as when a host dies, or the kernel kills the control group), the other half alone. Two other workers serve
the same queue. The time is measured from the kill until the clip's results are in Postgres.
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
from pathlib import Path
from typing import cast

from local.services import Services
from tests.reliability.chaos import percentile
from tests.reliability.world import WorkerProcess, World
from tests.workers.processes import wait_until

SPREAD_S = 15.0  # the kills come at random moments of the heartbeat's period
BOUND_S = 90.0


def measure(root: Path, services: Services, workers: int, rng: random.Random) -> dict[str, list[float]]:
    """Kill this many workers -> the seconds until recovery, for each kind of death."""
    world = World(root, services, ttl_s=0.0)
    del world.env["HEARTBEAT_TTL_S"], world.env["RETRY_BASE_S"]  # the defaults are what is measured
    numbers = [number for number in range(2 * workers) if number % 40 != 39][:workers]
    world.inject("recovery", numbers)
    never = str(root / "never")
    fleet = [world.worker("unpack")]
    holders = [world.worker("gpu", number, STUB_WAITS_FOR=never, CLIPS_IN_HAND="1") for number in range(workers)]
    try:
        wait_until(lambda: len(held(world)) == workers, "every worker to hold a clip", BOUND_S)
        fleet += [world.worker("gpu", workers + number) for number in range(2)]
        killed = _kill(world, holders, rng)
        return _await(world, killed)
    finally:
        for worker in (*fleet, *holders):
            worker.kill()


def held(world: World) -> dict[int, str]:
    """The clip that each process holds, by process id."""
    found = {}
    for key in cast("list[bytes]", world.redis.keys("inflight:queue:transcribe:*")):
        for payload in cast("list[bytes]", world.redis.lrange(key, 0, -1)):
            found[int(key.decode().split(":")[-2])] = str(json.loads(payload)["original_filename"])
    return found


def _kill(world: World, holders: list[WorkerProcess], rng: random.Random) -> dict[str, tuple[str, float]]:
    """-> clip: (how its worker died, when)."""
    clips = held(world)
    moments = sorted(rng.uniform(0, SPREAD_S) for _ in holders)
    began, killed = time.monotonic(), {}
    for number, (worker, moment) in enumerate(zip(holders, moments, strict=True)):
        threading.Event().wait(max(0.0, began + moment - time.monotonic()))
        how = "with its heartbeat's process" if number % 2 else "alone"
        worker.signal(signal.SIGKILL, group=bool(number % 2))
        killed[clips[worker.pid]] = (how, time.monotonic())
    return killed


def _await(world: World, killed: dict[str, tuple[str, float]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    open_ = dict(killed)
    deadline = time.monotonic() + 2 * BOUND_S
    while open_ and time.monotonic() < deadline:
        done = {name for (name,) in world.query("SELECT original_filename FROM audio_files WHERE status <> 'pending'")}
        for clip in done & open_.keys():
            how, since = open_.pop(clip)
            times.setdefault(how, []).append(time.monotonic() - since)
        threading.Event().wait(0.1)
    for how, _ in open_.values():
        times.setdefault(how, []).append(float("inf"))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="recovery-"))
    with Services(root / "services", durable=False) as services:
        times = measure(root / "run", services, arguments.workers, random.Random(arguments.seed))  # noqa: S311
    shutil.rmtree(root, ignore_errors=True)
    worst = 0.0
    for how, found in sorted(times.items()):
        found.sort()
        worst = max(worst, percentile(found, 0.99))
        shown = ", ".join(f"{name} {percentile(found, share):.1f}" for name, share in (("p50", 0.5), ("p99", 0.99)))
        print(f"killed {how}: {len(found)} workers, recovery {shown}, max {found[-1]:.1f} s")
    sys.exit(0 if worst <= BOUND_S else f"p99 is above {BOUND_S:.0f} s")


if __name__ == "__main__":
    main()
