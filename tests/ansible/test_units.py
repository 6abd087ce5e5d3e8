"""The systemd units that the roles write: each has a good exposure score, and none contains a secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import Settings

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = ROOT / "ansible"
# Unit -> (role, its group, how exposed it may be by `systemd-analyze security`: 0 is best, 10 is worst).
UNITS = {
    "transfer-worker.service": ("transfer", "transfer", 2.0),
    "archive-expiry.service": ("transfer", "transfer", 2.0),
    "unpack-worker.service": ("gpu_worker", "gpu_workers", 2.0),
    "gpu-worker.service": ("gpu_worker", "gpu_workers", 3.0),
    "ra-app.service": ("orchestrator", "orchestrator", 2.0),
    "ra-app-exports.service": ("orchestrator", "orchestrator", 2.0),
    "audio-pipeline-backup.service": ("orchestrator", "orchestrator", 3.0),
    "audio-pipeline-backup-copy.service": ("orchestrator", "orchestrator", 2.0),
    "audio-pipeline-restore-check.service": ("orchestrator", "orchestrator", 2.0),
    "audio-pipeline-health.service": ("common", "gpu_workers", 3.0),
}
INVENTORY = """
all:
  vars: {ansible_host: 10.0.0.5, %s}
  children:
    orchestrator: {hosts: {orch: }}
    transfer: {hosts: {transfer-01: }}
    gpu_workers: {hosts: {gpu-01: }}
"""
SECRETS = {
    name: f"secret-{number}"
    for number, name in enumerate(
        re.findall(r"^#? ?(vault_\w+):", (ANSIBLE / "group_vars/vault.yml.example").read_text(), re.MULTILINE)
    )
}


def rendering(unit: str, folder: Path) -> dict[str, Any]:
    """The play that writes a unit into the folder, for the first host of its group, with the variables of its role."""
    role, group, _ = UNITS[unit]
    files = [ANSIBLE / "group_vars/all.yml", ANSIBLE / f"group_vars/{group}.yml"]
    for home in (ANSIBLE / "roles/common", ANSIBLE / "roles" / role):
        files += sorted([*home.glob("defaults/*.yml"), *home.glob("vars/main.yml"), *home.glob("vars/main/*.yml")])
    template = ANSIBLE / "roles" / role / "templates" / f"{unit}.j2"
    return {
        "hosts": group,
        "connection": "local",
        "gather_subset": ["min"],
        "vars": {"ansible_python_interpreter": sys.executable},
        "vars_files": [str(file) for file in files],
        "tasks": [{"ansible.builtin.template": {"src": str(template), "dest": str(folder / unit), "mode": "0644"}}],
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all units as Ansible writes them. One call of Ansible, because each takes two seconds."""
    folder = tmp_path_factory.mktemp("units")
    (folder / "inventory.yml").write_text(INVENTORY % ", ".join(f"{name}: {word}" for name, word in SECRETS.items()))
    (folder / "render.yml").write_text(yaml.safe_dump([rendering(unit, folder) for unit in UNITS]))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", folder / "inventory.yml", folder / "render.yml"],
        cwd=folder, env=os.environ | {"ANSIBLE_GATHERING": "smart"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_hardly_exposed_and_holds_no_secret(rendered, unit):
    _, _, most = UNITS[unit]
    text = (rendered / unit).read_text()
    assert _exposure(rendered / unit) <= most
    assert "secret-" not in text
    if unit.endswith("-worker.service"):
        for wanted in (
            "Type=notify",
            "WatchdogSec=",
            "Restart=on-failure",
            "ExecStopPost=+/usr/local/lib/audio-pipeline/stop-crash-loop %n",
            "StartLimitIntervalSec=0",
            "MemoryMax=",
            "TasksMax=",
        ):
            assert wanted in text, wanted


@pytest.mark.parametrize(
    ("unit", "ours", "most"), [("nginx.service", "nginx", 3.0), ("postgresql@.service", "postgresql", 3.5)]
)
def test_a_unit_of_the_distribution_is_hardly_exposed_with_our_sandbox(tmp_path, unit, ours, most):
    theirs = next(
        path for path in map(Path, ("/usr/lib/systemd/system", "/lib/systemd/system")) if (path / unit).exists()
    )
    sandbox = (ANSIBLE / f"roles/orchestrator/templates/{ours}-hardening.conf.j2").read_text().partition("\n")[2]
    file = tmp_path / unit.replace("@", "@15-main")
    file.write_text((theirs / unit).read_text() + sandbox)
    assert _exposure(file) <= most


def _exposure(unit: Path) -> float:
    command: list[str | Path] = ["systemd-analyze", "security", "--offline=yes", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


@pytest.mark.parametrize("kind", ["transfer", "gpu_worker"])
def test_settings_that_are_written_are_settings_that_are_read(kind):
    known = {name.upper() for name in Settings.model_fields}
    texts = [path.read_text() for path in (ANSIBLE / "roles" / kind / "vars").glob("*.yml")]
    texts += [path.read_text() for path in (ANSIBLE / "roles/common/vars").glob("*.yml")]
    written = set(re.findall(r"^  ([A-Z][A-Z0-9_]+):", "\n".join(texts), re.MULTILINE))
    assert written
    assert written - known == set()
