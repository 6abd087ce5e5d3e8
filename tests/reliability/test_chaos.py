"""The short form of the reliability programme; `make reliability` runs the long one (see docs/reliability.md)."""

from __future__ import annotations

import pytest

from local.services import Services
from tests.reliability import chaos
from tests.reliability.fault_points import KINDS, Range

CLIPS = 100  # enough for some kills, stops and pauses while they go through
STRIDE = 12  # every twelfth step is hit


def test_no_clip_is_lost_or_doubled_while_workers_are_killed_stopped_and_paused(services, tmp_path):
    report = chaos.run(tmp_path, services, seed=11, clips=CLIPS, within_s=300)
    assert report.kills + report.terms + report.zombies > 0
    assert (report.accounts.lost, report.accounts.doubled, report.accounts.problems) == (0, 0, [])
    assert report.accounts.done + report.accounts.failed == CLIPS


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_of_worker_or_redis_between_two_steps_changes_no_outcome(tmp_path, kind):
    wrong = []
    with Services(tmp_path / "services", durable=False) as services:
        faults = Range(tmp_path, services)
        steps = faults.steps(kind)
        # Some steps of each worker here, others for each fault and worker; all of them in the long form.
        number = KINDS.index(kind)
        for fault, first in (("kill", 1 + number), ("redis", 1 + number + STRIDE // 2)):
            for at in range(first, len(steps) + 1, STRIDE):
                accounts, _ = faults.strike(kind, fault, at)
                if accounts.problems or accounts.lost or accounts.doubled:
                    wrong.append((kind, fault, steps[at - 1], accounts))
    assert wrong == []
