"""What a run does about settings that are refused: the kept copy, and the message that names what refused them."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "ansible/roles/common"
PROGRAM = ROLE / "files/proved_settings.sh"

# The role's filters, read as Ansible reads them: from a file that is in no package.
FILTERS = runpy.run_path(str(ROLE / "filter_plugins/troubles.py"))
cause, refusals = FILTERS["cause"], FILTERS["refusals"]


def proved(verb: str, kept: Path, *paths: Path) -> list[str]:
    done = subprocess.run(["sh", PROGRAM, verb, kept, *paths], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_what_was_proved_comes_back_with_its_times(tmp_path):
    settings, secrets, never = tmp_path / "gpu.env", tmp_path / "credentials", tmp_path / "never"
    secrets.mkdir()
    settings.write_text("S3_BUCKET=a\n")
    (secrets / "key").write_text("old")
    for path in (settings, secrets / "key"):
        os.utime(path, (1000, 1000))
    everything = (kept := tmp_path / "proved", settings, secrets, never)
    proved("keep", *everything)
    assert proved("differ", *everything) == []
    assert kept.stat().st_mode & 0o077 == 0, "others may look for secrets in it"

    settings.write_text("S3_BUCKET=b\n")
    (secrets / "key").write_text("new")
    (secrets / "another").write_text("new")
    assert proved("differ", *everything) == [str(settings), str(secrets)]
    assert proved("back", *everything) == [str(settings), str(secrets)]
    assert settings.read_text() == "S3_BUCKET=a\n"
    assert [path.name for path in secrets.iterdir()] == ["key"]
    assert settings.stat().st_mtime == (secrets / "key").stat().st_mtime == 1000, "a worker would be restarted"
    assert proved("back", *everything) == []


def test_a_host_that_has_kept_nothing_is_told_apart(tmp_path):
    (tmp_path / "a.env").write_text("x")
    done = subprocess.run(["sh", PROGRAM, "back", tmp_path / "none", tmp_path / "a.env"], check=False)
    assert done.returncode == 3
    assert (tmp_path / "a.env").exists()


SAID = """\
Redis     good
Postgres  Postgres refuses the password of pipeline
clocks    not checked, because the check of Postgres failed
policies  good; hate@1
S3        S3 at http://x refuses access to the bucket b
(403); check S3_SECRET_KEY
"""


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ([{"rc": 0, "stdout": "Redis     good\n"}], []),
        (
            [{"rc": 1, "stdout": SAID}, {"rc": 1, "stdout": SAID}],
            [
                "Postgres: Postgres refuses the password of pipeline",
                "S3: S3 at http://x refuses access to the bucket b (403); check S3_SECRET_KEY",
            ],
        ),
        ([{"rc": 78, "stdout": "", "stderr": "BATCH_SIZE is 'many'; it must be a number\n"}],
         ["BATCH_SIZE is 'many'; it must be a number"]),
    ],
)  # fmt: skip
def test_the_service_that_refuses_is_named_once(answers: list[dict[str, Any]], wanted: list[str]):
    assert refusals(answers) == wanted


def test_a_failed_step_is_never_without_a_cause():
    unit = {
        "item": "gpu-worker",
        "failed": True,
        "rc": 0,
        "stdout": "ActiveState=activating\nNRestarts=0",
        "stderr": "",
    }
    assert cause({"failed": True, "msg": "One or more items failed", "results": [{"item": "unpack-worker"}, unit]}) == (
        "gpu-worker: ActiveState=activating NRestarts=0"
    )
    assert cause({"rc": 1, "stderr": "gpu-01: gpu is held: S3 …\n", "msg": "non-zero return code"}) == (
        "gpu-01: gpu is held: S3 …"
    )
    assert cause({"rc": 5, "msg": "non-zero return code"}) == "exit code 5, without a message"


def test_secrets_of_all_roles_are_checked_before_a_package_is_installed():
    first, *others = [
        task["ansible.builtin.import_tasks"] for task in yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    ]
    assert first == "preflight_all.yml"
    assert "packages.yml" in others
    of_role = yaml.safe_load((ROLE / "tasks/preflight_all.yml").read_text())[1]
    assert of_role["ansible.builtin.include_role"]["tasks_from"] == "preflight"
    roles = {path.name for path in ROLE.parent.iterdir()}
    assert set(of_role["vars"]["common_roles"].values()) | {"common"} == roles
    play, *_ = yaml.safe_load((ROOT / "ansible/playbooks/site.yml").read_text())
    assert play["roles"] == [{"role": "common"}]


def test_a_rotation_reads_only_the_line_of_s3():
    tasks = (ROLE.parent / "orchestrator/tasks/rotate_begin.yml").read_text()
    found = re.search(r"orchestrator_ra_refused: (\S+ .*?) #", tasks)
    assert found
    refused = re.compile(found[1])
    assert not refused.search("Postgres  password authentication failed\nS3        good")
    assert refused.search("Postgres  good\nS3        S3 refuses access")
    assert refused.search(""), "a check that says nothing has failed"
