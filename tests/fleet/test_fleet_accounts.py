"""The parts of the fleet's tests that need no host: recap, ledger, report, names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet import down, layout, ledger, report, run
from tests.fleet.archives import make_archive
from tests.fleet.playbooks import RECAP, Outcome
from tests.fleet.scenarios import SCENARIOS, troubles
from tests.fleet.world import Figures, ScenarioError, World

PRINTED = """
TASK [common : packages] *******************************************************
changed: [orch]
ok: [gpu-01]

RUNNING HANDLER [common : restart sshd] ****************************************
changed: [orch] => {"changed": true}

PLAY RECAP *********************************************************************
gpu-01                     : ok=5    changed=0    unreachable=0    failed=0    skipped=1    rescued=0    ignored=0
orch                       : ok=7    changed=2    unreachable=1    failed=0    skipped=0    rescued=0    ignored=0
"""


def test_the_recap_is_read_host_by_host():
    assert RECAP.findall(PRINTED) == [("gpu-01", "5", "0", "0", "0"), ("orch", "7", "2", "1", "0")]


def test_tasks_that_changed_something_are_named_with_their_host(tmp_path):
    outcome = Outcome("ansible-playbook site.yml", 0, PRINTED, 1.0, tmp_path)
    assert outcome.changed_tasks() == ["common : packages ([orch])", "common : restart sshd ([orch])"]


def test_a_later_run_on_the_same_fleet_knows_since_when_completions_count(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "LEDGER", tmp_path / "ledger.json")
    forgot = ledger.Ledger().redis_forgot()
    assert ledger.Ledger().remembered_since == forgot


def test_the_report_adds_up_and_names_what_failed():
    lines = [Figures("site", 4, 100, 60, 200.4, 0), Figures("work", 4, 0, 0, 90.0, 57, 1, 0, "a clip was lost")]
    last = report.table(lines).strip().splitlines()[-1]
    assert last == "| all | 4 | 100 | 60 | 290 | 57 | 1 | 0 | 1 failed |"


def test_a_bridge_has_a_name_that_the_kernel_takes():
    assert len(layout.BRIDGE) <= 15


def test_an_unknown_host_is_named_with_those_there_are():
    with pytest.raises(layout.FleetError, match=r"no such host: gpu-99; there are orch, "):
        layout.hosts(["gpu-99"])


def test_a_scenario_says_what_did_not_hold():
    with pytest.raises(ScenarioError, match="nothing was lost"):
        World().require(False, "nothing was lost")


def test_every_scenario_says_what_it_proves():
    assert all((scenario.__doc__ or "").endswith(".") for scenario in SCENARIOS.values())


def test_a_small_archive_has_clips_of_every_end(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.fleet.archives.FOLDER", tmp_path)
    archive = make_archive("small")
    assert set(archive.ends.values()) == {"done", "no_speech", "failed"}
    assert archive.flagged


def test_every_trouble_of_the_runbook_is_tried_or_named_as_untried():
    runbook = (layout.ROOT / "docs/operations.md").read_text()
    section = runbook.partition("\n## Troubles\n")[2].partition("\n## ")[0]
    headings = {line.removeprefix("### ") for line in section.splitlines() if line.startswith("### ")}
    assert headings == set(troubles.TROUBLES) | set(troubles.ELSEWHERE) | set(troubles.BY_TESTS) | troubles.UNTRIED
    assert all((layout.ROOT / test).is_file() for test in troubles.BY_TESTS.values())
    assert set(troubles.ELSEWHERE.values()) <= set(SCENARIOS)


def test_a_machine_without_the_programs_is_told_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert run.main(["--only", "site"]) == 1
    assert (
        "apt install age git iproute2 mmdebstrap mount nftables openssh-client systemd-cont" in capsys.readouterr().err
    )


def test_nothing_of_a_fleet_that_was_taken_down_stays(tmp_path):
    fleet = tmp_path / "fleet"
    (fleet / "logs").mkdir(parents=True)
    for name in ("vault-password", "inventory.yml", "state.json", "logs/000-site.log"):
        (fleet / name).write_text("x")
    with pytest.raises(layout.FleetError, match="clones/orch/root is still mounted"):
        down.remove_files(fleet, f"overlay {fleet}/clones/orch/root overlay rw 0 0\n")
    down.remove_files(fleet, Path("/proc/mounts").read_text())
    assert list(tmp_path.iterdir()) == []
