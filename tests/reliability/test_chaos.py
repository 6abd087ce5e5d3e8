"""The short form of the reliability programme; `make reliability` runs the long one (see docs/reliability.md)."""

from __future__ import annotations

from local.services import Services
from tests.reliability import chaos
from tests.reliability.fault_points import KINDS, Range


def test_no_clip_is_lost_or_counted_twice_while_workers_are_killed_stopped_and_paused(services, tmp_path):
    report = chaos.run(tmp_path, services, seed=11, clips=150, within_s=300)
    assert report.kills + report.terms + report.zombies > 0
    assert (report.accounts.lost, report.accounts.doubled, report.accounts.problems) == (0, 0, [])
    assert report.accounts.done + report.accounts.failed == 150


def test_a_kill_of_worker_or_redis_between_two_steps_changes_no_outcome(tmp_path):
    wrong = []
    with Services(tmp_path / "services", durable=False) as services:
        faults = Range(tmp_path, services)
        for number, kind in enumerate(KINDS):
            steps = faults.steps(kind)
            # Every eighth step of each worker here, from another start for each fault; all of them in the long form.
            for fault, first in (("kill", 1 + number), ("redis", 3 + number)):
                for at in range(first, len(steps) + 1, 8):
                    accounts, _ = faults.strike(kind, fault, at)
                    if accounts.problems or accounts.lost or accounts.doubled:
                        wrong.append((kind, fault, steps[at - 1], accounts))
    assert wrong == []
