"""Growth: what a clip costs when there are 10, 100, 1,000 and 10,000 of them.

    PYTHONPATH=src:. python -m bench.growth [--most 10000]

Unpack and GPU worker are the real ones with real services; only the two models are stubs that answer at once, so that
what is measured is all the rest: unpacking, queues, uploads, rows. All archives hold ten clips. Those of one size are
put in one after the other, faster than they are processed, so that a backlog grows. The small sizes are done several
times, because 10 clips take less than the clock can tell.

Meanwhile a second pipeline of its own, with its own database, queues and bucket, gets ten clips at a time, and nothing
waits there. Other programs make both dearer alike (on a busy machine a clip costs a quarter more processor time), so
the ratio of the two says what the backlog costs, on a quiet machine and on a busy one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.meter import session_cpu_seconds
from bench.report import Table, number, print_table, write_json
from local.services import Services
from tests.reliability.world import World

ARCHIVE = 10  # clips
SIZES = (10, 100, 1_000, 10_000)
LEAST = 600  # clips to be measured at each size
BOUND = 0.05
SIZE_S = 4 * 3600.0
LOOK_S = 0.2
REST_S = 2.0  # between two times ten clips beside a backlog
# The clips of an archive by their number, without those that stand for a broken upload (`tests.reliability.tones`).
NUMBERS = [number for number in range(38) if number % 40 != 39][:ARCHIVE]


@dataclass(frozen=True)
class Turn:
    """What the workers took for some clips."""

    clips: int
    cpu_s: float
    wall_s: float

    @property
    def per_clip_ms(self) -> float:
        return 1000 * self.cpu_s / self.clips


@dataclass(frozen=True)
class Cost:
    """What clips cost that came in backlogs of `size`, and what clips cost beside them where nothing waited."""

    size: int
    backlog: Turn
    beside: Turn

    @property
    def ratio(self) -> float:
        return self.backlog.per_clip_ms / self.beside.per_clip_ms


class Pipeline:
    """Unpack and GPU worker with stub models, in a database and with queues of their own."""

    def __init__(self, root: Path, services: Services, redis_db: int) -> None:
        root.mkdir(parents=True)
        self.world = World(root, services, ttl_s=60.0, REDIS_DB=str(redis_db))
        self.workers = [self.world.worker("unpack"), self.world.worker("gpu")]
        self.archives = 0

    def settle(self) -> None:
        """Wait until the workers have started and rest: their CPU time hardly grows any more."""
        last = -1.0
        while (now := self.cpu_s()) - last > 0.05 or now < 0.5:
            self.check()
            last = now
            threading.Event().wait(2.0)

    def take(self, clips: int) -> Turn:
        """Process so many clips, put in at once, and return what they took."""
        before, began = self.cpu_s(), time.monotonic()
        for _ in range(clips // ARCHIVE):
            self.archives += 1
            self.world.inject(f"growth-{self.archives}", NUMBERS)
        deadline = began + SIZE_S
        while sum(self.world.complete().values()) < self.archives:
            self.check()
            if time.monotonic() > deadline:
                raise SystemExit(f"the clips were not done within {SIZE_S:.0f} s")
            threading.Event().wait(LOOK_S)
        return Turn(clips, self.cpu_s() - before, time.monotonic() - began)

    def cpu_s(self) -> float:
        return sum(session_cpu_seconds(worker.pid) for worker in self.workers)

    def check(self) -> None:
        for worker in self.workers:
            if not worker.running:
                end = "\n".join(worker.log.read_text(errors="replace").splitlines()[-10:])
                raise SystemExit(f"the {worker.kind} worker ended; its log ends with:\n{end}")

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.world.close()


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
        "sizes": [{**asdict(cost), "ratio": cost.ratio} for cost in costs],
        "within_bound": within(costs),
        "tables": [[table.title, list(table.columns), [list(row) for row in table.rows]]],
    }
    write_json("growth", figures, arguments.json)
    return 0


def measure(root: Path, services: Services, size: int) -> Cost:
    """Process backlogs of `size` clips until enough clips are done, and beside them ten clips at a time."""
    large, small = Pipeline(root / "backlog", services, 1), Pipeline(root / "beside", services, 2)
    try:
        for pipeline in (large, small):
            pipeline.settle()
        ended = threading.Event()
        with ThreadPoolExecutor(1) as others:
            beside = others.submit(_beside, small, ended)
            try:
                backlog = _sum([large.take(size) for _ in range(max(1, LEAST // size))])
            finally:
                ended.set()
        cost = Cost(size, backlog, beside.result())
        print(f"{size:,} clips: {cost.ratio:.3f} times what a clip costs where nothing waits", file=sys.stderr)
        return cost
    finally:
        for pipeline in (large, small):
            pipeline.close()


def _beside(pipeline: Pipeline, ended: threading.Event) -> Turn:
    """Process ten clips at a time, with pauses that leave most of the machine to the backlog, until it has ended."""
    turns = [pipeline.take(ARCHIVE)]
    while not ended.wait(REST_S):
        turns.append(pipeline.take(ARCHIVE))
    return _sum(turns)


def _sum(turns: Sequence[Turn]) -> Turn:
    return Turn(
        sum(turn.clips for turn in turns), sum(turn.cpu_s for turn in turns), sum(turn.wall_s for turn in turns)
    )


def cost_table(costs: Sequence[Cost]) -> Table:
    """The cost of a clip at each size, beside that of a clip where nothing waits."""
    rows = [
        [
            f"{cost.size:,}", f"{cost.backlog.clips:,}", number(cost.backlog.per_clip_ms, 1),
            number(cost.beside.per_clip_ms, 1), f"{cost.ratio:.3f}",
        ]
        for cost in costs
    ]  # fmt: skip
    verdict = "within" if within(costs) else "not within"
    title = f"Processor time of a clip with stub models ({verdict} ±{100 * BOUND:.0f} %)"
    return Table(title, ["clips waiting", "measured", "ms per clip", "ms where nothing waits", "ratio"], rows)


def within(costs: Sequence[Cost]) -> bool:
    """Whether a clip costs the same at every size but for the bound, either way from the middle."""
    values = [cost.ratio for cost in costs]
    middle = (max(values) + min(values)) / 2
    return max(values) <= middle * (1 + BOUND)


if __name__ == "__main__":
    sys.exit(main())
