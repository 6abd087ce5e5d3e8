"""Rules for the text of playbooks and roles: the linters pass, and every play and role has its required parts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = ROOT / "ansible"
BIN = Path(sys.executable).parent
PLAYBOOKS = sorted((ANSIBLE / "playbooks").glob("*.yml"))
ROLES = sorted(path.name for path in (ANSIBLE / "roles").iterdir())
WANTED = {
    "backup", "deploy-pipeline", "deploy-ra-app", "erase-clip", "health-check", "restore", "retire-worker", "rollback",
    "rotate-ca", "rotate-secrets", "setup-new-worker", "site", "start-workers",
    "stop-workers", "sync-models", "uninstall",
}  # fmt: skip
# Each of these takes its arguments from a form that shows them, or writes them into a log.
MODULES_THAT_SHOW = (
    "copy",
    "template",
    "command",
    "shell",
    "postgresql_user",
    "postgresql_query",
    "uri",
    "blockinfile",
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=ANSIBLE, env=env, capture_output=True, text=True, check=False)


def tasks_of(found: Any) -> list[dict[str, Any]]:
    """All tasks of a file, those in blocks too."""
    tasks = []
    for task in found if isinstance(found, list) else []:
        tasks.append(task)
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
            tasks += tasks_of(task.get(part))
    return tasks


def task_files() -> list[Path]:
    return [path for path in ANSIBLE.glob("roles/*/*/*.yml") if path.parent.name in {"tasks", "handlers"}]


@pytest.mark.thorough  # half a minute of processor time
def test_ansible_lint_is_content_at_its_strictest_profile():
    done = run(BIN / "ansible-lint", "--offline", "--profile", "production")
    assert done.returncode == 0, done.stdout + done.stderr


def test_yamllint_is_content():
    done = run(BIN / "yamllint", "--strict", ".")
    assert done.returncode == 0, done.stdout


def test_every_playbook_is_there():
    assert {path.stem for path in PLAYBOOKS} == WANTED
    assert ROLES == ["common", "gpu_worker", "orchestrator", "transfer"]


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_play_names_its_failure_policy(playbook):
    for play in yaml.safe_load(playbook.read_text()):
        if "import_playbook" not in play:
            assert {"any_errors_fatal", "max_fail_percentage"} & play.keys(), play.get("name")


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_a_contract_a_way_out_and_its_exceptions(role):
    folder = ANSIBLE / "roles" / role
    entries = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"].values()
    options = {name: option for entry in entries for name, option in entry.get("options", {}).items()}
    assert all(option.get("description") for option in options.values())
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text()) or {}
    assert set(defaults) - set(options) == set(), "a default that the contract does not know"
    assert (folder / "tasks/uninstall.yml").is_file()
    assert re.search(r"^#+ Idempotence", (folder / "README.md").read_text(), re.MULTILINE)


def test_the_schema_is_the_one_at_the_top_level():
    link = ANSIBLE / "roles/orchestrator/files/schema.sql"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "schema.sql"


def test_tasks_that_hold_secrets_show_nothing():
    shown = []
    for path in task_files():
        for task in tasks_of(yaml.safe_load(path.read_text())):
            module = next((name for name in task if name.rpartition(".")[2] in MODULES_THAT_SHOW), None)
            text = yaml.safe_dump({key: value for key, value in task.items() if key != "name"})
            if (
                module
                and re.search(r"vault_\w*(password|key|secret|token)|_secrets\[", text)
                and not task.get("no_log")
            ):
                shown.append(f"{path.relative_to(ANSIBLE)}: {task['name']}")
    assert shown == []


def test_no_secret_has_a_default_in_the_open():
    for path in [*ANSIBLE.glob("group_vars/*.yml"), *ANSIBLE.glob("roles/*/defaults/*.yml")]:
        if path.name != "vault.yml":
            assert not re.search(
                r"^\s*\w*(password|secret_key|private_key)\w*:\s*[\"']?\w", path.read_text(), re.MULTILINE
            )


def test_the_example_of_the_vault_names_every_secret_that_is_used():
    texts = [path.read_text() for path in ANSIBLE.rglob("*") if path.is_file() and path.suffix in {".yml", ".j2"}]
    used = set(re.findall(r"\bvault_[a-z0-9_]+", "\n".join(texts))) - {"vault_names"}
    example = (ANSIBLE / "group_vars/vault.yml.example").read_text()
    assert {name for name in used if not re.search(rf"\b{name}\b", example)} == set()


def test_no_replacement_has_two_backslashes():
    """Ansible takes both as they are, so that a reference to a group is none."""
    assert [path for path in ANSIBLE.rglob("*.yml") if path.is_file() and "\\\\1" in path.read_text()] == []
