"""`stop-crash-loop` counts crashes, and no starts of a person. In the fleet's scenario `restarts`, systemd calls it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "ansible/roles/common/files/stop_crash_loop.sh"
MOST = 8
STOPPED = "gpu-worker.service has crashed 8 times within 10 minutes"


def ends(folder: Path, result: str, times: int = 1) -> str:
    """A unit that no systemd has ends some times -> what the program printed."""
    env = {**os.environ, "CRASHES": str(folder), "SERVICE_RESULT": result}
    said = ""
    for _ in range(times):
        said += subprocess.run(
            ["sh", PROGRAM, "gpu-worker.service"], env=env, capture_output=True, text=True, check=False
        ).stdout
    return said


@pytest.mark.parametrize("result", ["exit-code", "signal", "watchdog", "timeout", "core-dump"])
def test_the_eighth_crash_stops_the_unit_and_a_person_gets_eight_more(tmp_path, result):
    assert ends(tmp_path, result, MOST - 1) == ""
    assert STOPPED in ends(tmp_path, result)
    assert ends(tmp_path, result, MOST - 1) == ""


def test_stops_in_order_never_count_and_begin_the_count_anew(tmp_path):
    assert ends(tmp_path, "success", 20) == ""
    ends(tmp_path, "signal", MOST - 1)
    ends(tmp_path, "success")
    assert ends(tmp_path, "signal", MOST - 1) == ""


def test_old_crashes_are_forgotten(tmp_path):
    (tmp_path / "gpu-worker.service").write_text(f"{time.time() - 700:.0f}\n" * MOST)
    assert ends(tmp_path, "signal", MOST - 1) == ""
    assert STOPPED in ends(tmp_path, "signal")
