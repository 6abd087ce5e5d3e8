"""The short form of the reliability programme; `make reliability` runs the long one (see docs/reliability.md).

tests/ansible/test_redis_acl.py kills workers while clips go through, too, with the Redis users of a fleet.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from local.services import Services
from tests.reliability import chaos
from tests.reliability.fault_points import FAULTS, Range

CLIPS = 100  # enough for some kills, stops and pauses while they go through


@pytest.mark.thorough
def test_no_clip_is_lost_or_doubled_while_workers_are_killed_stopped_and_paused(services, tmp_path):
    report = chaos.run(tmp_path, services, seed=11, clips=CLIPS, within_s=300)
    assert report.kills + report.terms + report.zombies > 0
    assert (report.accounts.lost, report.accounts.doubled, report.accounts.problems) == (0, 0, [])
    assert report.accounts.done + report.accounts.failed == CLIPS


@pytest.mark.thorough
def test_a_kill_of_worker_or_redis_between_two_steps_changes_no_outcome(services: Services, tmp_path: Path):
    """The GPU worker in the middle of its work; `tests.reliability.fault_points` hits every step of every worker."""
    faults = Range(tmp_path, services)
    steps = faults.steps("gpu")
    for fault in FAULTS:
        accounts, _ = faults.strike("gpu", fault, len(steps) // 2)
        assert (accounts.problems, accounts.lost, accounts.doubled) == ([], 0, 0), (fault, steps[len(steps) // 2 - 1])
