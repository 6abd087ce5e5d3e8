"""Growth: what a clip costs when there are 10, 100, 1,000 and 10,000 of them.

    PYTHONPATH=src:. python -m bench.growth [--most 10000]

Unpack and GPU worker are the real ones with real services; only the two models are stubs that answer at once, so that
what is measured is all the rest: unpacking, queues, uploads, rows. All archives hold ten clips. Those of one size are
put in one after the other, faster than they are processed, so that a backlog grows. The small sizes are done several
times, because 10 clips take less than the clock can tell.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.meter import session_cpu_seconds
from bench.report import Table, number, print_table, write_json
from local.services import Services
from tests.reliability.world import WorkerProcess, World

ARCHIVE = 10  # clips
SIZES = (10, 100, 1_000, 10_000)
LEAST = 300  # clips to be measured at each size
BOUND = 0.05
SIZE_S = 4 * 3600.0
# The clips of an archive by their number, without those that stand for a broken upload (`tests.reliability.tones`).
NUMBERS = [number for number in range(38) if number % 40 != 39][:ARCHIVE]


@dataclass(frozen=True)
class Cost:
    """What the workers took for `clips` clips that came in backlogs of `size`."""

    size: int
    clips: int
    cpu_s: float
    wall_s: float

    @property
    def per_clip_ms(self) -> float:
        return 1000 * self.cpu_s / self.clips


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="leave out larger sizes (default: 10,000)")
    parser.add_argument("--json", type=Path, help="where the figures go (default: bench/.results/growth.json)")
    arguments = parser.parse_args()
    sizes = [size for size in SIZES if size <= arguments.most]
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as folder:
        root = Path(folder)
        with Services(root / "services", durable=False) as services:
            costs = [measure(root / str(size), services, size) for size in sizes]
    table = cost_table(costs)
    print_table(table)
    figures = {
        "archive": ARCHIVE,
        "sizes": [{**asdict(cost), "per_clip_ms": cost.per_clip_ms} for cost in costs],
        "within_bound": within(costs),
        "tables": [[table.title, list(table.columns), [list(row) for row in table.rows]]],
    }
    write_json("growth", figures, arguments.json)
    return 0


def measure(root: Path, services: Services, size: int) -> Cost:
    """Process backlogs of `size` clips, in a database of their own, until enough clips are done."""
    root.mkdir()
    world = World(root, services, ttl_s=60.0)
    workers = [world.worker("unpack"), world.worker("gpu")]
    try:
        _settle(workers)
        rounds = max(1, LEAST // size)
        cpu_s = wall_s = 0.0
        for turn in range(rounds):
            before, began = _cpu(workers), time.monotonic()
            for archive in range(size // ARCHIVE):
                world.inject(f"growth-{size}-{turn}-{archive}", NUMBERS)
            _wait(world, (turn + 1) * (size // ARCHIVE), workers)
            cpu_s, wall_s = cpu_s + _cpu(workers) - before, wall_s + time.monotonic() - began
        print(f"{size:,} clips: {1000 * cpu_s / (rounds * size):.1f} ms of CPU time each", file=sys.stderr)
        return Cost(size, rounds * size, cpu_s, wall_s)
    finally:
        for worker in workers:
            worker.kill()
        world.close()


def cost_table(costs: Sequence[Cost]) -> Table:
    """The cost of a clip at each size, and how far it lies from that of the smallest."""
    rows = [
        [
            f"{cost.size:,}", f"{cost.clips:,}", number(cost.per_clip_ms, 1),
            number(1000 * cost.wall_s / cost.clips, 1),
            f"{100 * (cost.per_clip_ms / costs[0].per_clip_ms - 1):+.1f} %",
        ]
        for cost in costs
    ]  # fmt: skip
    verdict = "within" if within(costs) else "not within"
    title = f"Cost of a clip with stub models ({verdict} ±{100 * BOUND:.0f} % of the middle)"
    return Table(
        title, ["clips waiting", "measured", "CPU ms per clip", "wall ms per clip", "against the smallest"], rows
    )


def within(costs: Sequence[Cost]) -> bool:
    """Whether all sizes cost the same but for the bound, either way from the middle."""
    values = [cost.per_clip_ms for cost in costs]
    middle = (max(values) + min(values)) / 2
    return max(values) <= middle * (1 + BOUND)


def _completed(world: World) -> int:
    return sum(world.complete().values())


def _cpu(workers: Sequence[WorkerProcess]) -> float:
    return sum(session_cpu_seconds(worker.pid) for worker in workers)


def _settle(workers: Sequence[WorkerProcess]) -> None:
    """Wait until the workers have started and rest: their CPU time hardly grows any more."""
    last = -1.0
    while (now := _cpu(workers)) - last > 0.05 or now < 0.5:
        _check(workers)
        last = now
        threading.Event().wait(2.0)


def _wait(world: World, archives: int, workers: Sequence[WorkerProcess]) -> None:
    """Wait until so many archives are complete."""
    deadline = time.monotonic() + SIZE_S
    while _completed(world) < archives:
        _check(workers)
        if time.monotonic() > deadline:
            raise SystemExit(f"the clips were not done within {SIZE_S:.0f} s")
        threading.Event().wait(0.2)


def _check(workers: Sequence[WorkerProcess]) -> None:
    for worker in workers:
        if not worker.running:
            end = "\n".join(worker.log.read_text(errors="replace").splitlines()[-10:])
            raise SystemExit(f"the {worker.kind} worker ended; its log ends with:\n{end}")


if __name__ == "__main__":
    sys.exit(main())
