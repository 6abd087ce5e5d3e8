"""What a deploy leaves of older releases: run here, against a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NAMES = ("v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8")  # from the oldest on


def test_the_oldest_releases_go_and_those_in_use_stay(tmp_path):
    home = tmp_path / "home"
    for number, name in enumerate(NAMES):
        (home / "venvs" / f"env-{name}").mkdir(parents=True)
        (home / "releases" / name).mkdir(parents=True)
        (home / "releases" / name / "venv").symlink_to(f"../../venvs/env-{name}")
        os.utime(home / "releases" / name, (number + 1, number + 1))
    (home / "current").symlink_to("releases/v8")
    (home / "previous").symlink_to("releases/v2")
    prune(tmp_path, common_home=str(home), common_release_name="v8", common_releases_kept=4)
    # Four with the current one; the one before it is kept besides.
    assert sorted(path.name for path in (home / "releases").iterdir()) == ["v2", "v5", "v6", "v7", "v8"]
    left = sorted(path.name for path in (home / "venvs").iterdir())
    assert left == ["env-v2", "env-v5", "env-v6", "env-v7", "env-v8"]


def prune(folder: Path, **variables: object) -> None:
    task = {"ansible.builtin.include_role": {"name": "common", "tasks_from": "prune"}, "name": "Prune"}
    playbook = folder / "prune.yml"
    playbook.write_text(
        yaml.safe_dump([{"name": "Prune", "hosts": "localhost", "gather_facts": False, "tasks": [task]}])
    )
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_ROLES_PATH": str(ROOT / "ansible/roles")}
    given = json.dumps(variables | {"ansible_python_interpreter": sys.executable})
    command = [BIN / "ansible-playbook", "-i", "localhost,", "-c", "local", "-e", given, playbook]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
