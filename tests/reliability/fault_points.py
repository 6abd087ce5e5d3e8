"""A fault after every step of every worker, once each: the worker or Redis is killed.

    PYTHONPATH=src:. python -m tests.reliability.fault_points [--every 5]

A run without a fault counts the steps. Then there is a new batch for each step: the fault happens after this step,
other workers (or the same worker, if Redis was killed and started again) finish the batch, and the result is checked.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from local.services import Services
from tests.reliability.tones import write_archive
from tests.reliability.world import Accounts, WorkerProcess, World
from tests.workers.processes import wait_until

CLIPS = (0, 1, 39, 49)  # two tones, a broken clip, silence
KINDS = ("transfer", "unpack", "gpu")
FAULTS = ("kill", "redis")
TTL_S = 1.5
WITHIN_S = 90.0
FAULTY = "tests.reliability.faulty_worker"


class Range:
    """Runs one fault after the other on the same services."""

    def __init__(self, root: Path, services: Services) -> None:
        self.root = root
        self.services = services
        self._number = 0

    def steps(self, kind: str) -> list[str]:
        """The names of a worker's steps, from a run without a fault."""
        accounts, steps = self.strike(kind, "kill", 0)
        if accounts.problems or not steps:
            raise RuntimeError(f"the run of {kind} without a fault went wrong: {accounts.problems}")
        return steps

    def strike(self, kind: str, fault: str, at: int) -> tuple[Accounts, list[str]]:
        """Run one batch with one fault -> the checked result, and the steps of the worker that had the fault."""
        self._number += 1
        root = self.root / f"{self._number:03d}-{kind}-{fault}-{at}"
        world = World(root, self.services, ttl_s=TTL_S)
        log = root / "steps"
        log.touch()
        fault_env = {
            "FAULT_AT": str(at), "FAULT": fault, "FAULT_LOG": str(log), "FAULT_KIND": kind,
            "FAULT_PID": str(self.services.valkey.processes[0].pid),
        }  # fmt: skip
        archives = self.services.ssh.archives
        shutil.rmtree(archives, ignore_errors=True)
        archives.mkdir(parents=True)
        workers: list[WorkerProcess] = []
        try:
            if kind == "transfer":
                write_archive(archives / f"{self._number}.tar", CLIPS)
            else:
                world.inject(f"batch-{self._number}", CLIPS)
            before = {"transfer": (), "unpack": (), "gpu": ("unpack",)}[kind]
            workers += [world.worker(other, 1) for other in before]
            struck = world.worker(kind, 0, FAULTY, **fault_env)
            workers.append(struck)
            self._await_the_fault(struck, fault, at)
            # Staging is the host's, so the restarted transfer worker finds what the killed one left.
            rest = [other for other in KINDS if other not in before and (other != kind or not struck.running)]
            workers += [world.worker(other, 0 if other == kind else 1) for other in rest]
            try:
                wait_until(
                    lambda: world.complete() and all(world.complete().values()), "the batch to be complete", WITHIN_S
                )
                wait_until(lambda: not world.busy(), "rest", WITHIN_S)
            except AssertionError as error:
                return Accounts(problems=[f"{error}; busy: {world.busy()}"]), log.read_text().splitlines()
        finally:
            for worker in workers:
                worker.kill()
        [batch_id] = world.complete()
        accounts = world.accounts({batch_id: CLIPS})
        world.close()
        return accounts, log.read_text().splitlines()

    def _await_the_fault(self, struck: WorkerProcess, fault: str, at: int) -> None:
        if at == 0:
            return
        if fault == "kill":
            wait_until(lambda: not struck.running, f"the death of the worker after step {at}", WITHIN_S)
            return
        server = self.services.valkey.processes[0]
        wait_until(lambda: not server.alive(), f"the death of Redis after step {at}", WITHIN_S)
        self.services.valkey.start()  # with the append-only file that the killed one wrote


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only each so-manyth step")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only these workers")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    struck = bad = 0
    with Services(root / "services", durable=False) as services:
        range_ = Range(root, services)
        for kind in arguments.kind or KINDS:
            steps = range_.steps(kind)
            print(f"{kind}: {len(steps)} steps: {' '.join(step.split()[1] for step in steps)}", flush=True)
            for fault in FAULTS:
                for at in range(1, len(steps) + 1, arguments.every):
                    accounts, struck_steps = range_.strike(kind, fault, at)
                    struck += 1
                    wrong = accounts.problems or accounts.lost or accounts.doubled
                    bad += bool(wrong)
                    verdict = f"WRONG: {accounts}" if wrong else "good"
                    # In the order of this run: a GPU worker takes the steps of several clips side by side.
                    step = next((line for line in struck_steps if line.startswith(f"{at} ")), steps[at - 1])
                    print(f"{kind} {fault} after step {step}: {verdict}", flush=True)
    shutil.rmtree(root, ignore_errors=True)
    print(f"{struck} faults, {bad} with a wrong outcome")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
