"""Runs a step of a role on this machine, in test folders, with real Ansible modules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def play(
    folder: Path,
    step: str,
    hosts: Mapping[str, Mapping[str, Any]],
    *,
    role: str = "common",
    groups: Mapping[str, Sequence[str]] | None = None,
    together: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a role's step on hosts that are all this machine, each with its own variables, and in `groups` if given.

    Afterwards every host writes the release that it chose to `folder/NAME.json`. With `together`, a failure of one host
    stops all; otherwise the others continue.
    """
    own = {name: dict(variables) for name, variables in hosts.items()}
    everyone = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    members = {group: {"hosts": dict.fromkeys(names)} for group, names in (groups or {}).items()}
    inventory = {"all": {"hosts": own, "vars": everyone, "children": members}}
    (folder / "inventory.yml").write_text(yaml.safe_dump(inventory))
    keep = "{{ {'release': common_release_name | default('')} | to_json }}"
    facts = str(folder) + "/{{ inventory_hostname }}.json"
    tasks = [
        {"name": "Step", "ansible.builtin.include_role": {"name": role, "tasks_from": step}},
        {"name": "Keep", "ansible.builtin.copy": {"content": keep, "dest": facts, "mode": "0644"}},
    ]
    book = {"name": "Play", "hosts": "all", "gather_facts": False, "any_errors_fatal": together, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([book]))
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_ROLES_PATH": str(ROOT / "ansible/roles")}
    # `common_home` is a variable of the role, which only extra variables override.
    given = json.dumps({"common_home": str(folder) + "/{{ inventory_hostname }}"})
    command = [f"{BIN}/ansible-playbook", "-i", f"{folder}/inventory.yml", "-e", given, f"{folder}/play.yml"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def release_of(folder: Path, name: str) -> str:
    return str(json.loads((folder / f"{name}.json").read_text())["release"])


def answers_of(name: str, output: str) -> list[str]:
    """The error message of each failed host, one line each."""
    # From `fatal: [HOST` (`failed: [HOST` in a loop) to the next host's line or the next heading.
    answer = rf"^(?:fatal|failed): \[{name}[ \]].*?(?=^\S*: \[|^TASK|^PLAY|\Z)"
    found: list[str] = re.findall(answer, output, re.MULTILINE | re.DOTALL)
    return [" ".join(answer.split()) for answer in found]
