"""The preflight names secrets that are missing or still the example's, and shows no secret."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ansible.local_play import BIN, ROOT, answers_of, play


def test_secrets_that_will_not_do_are_named(tmp_path):
    good = "s3cr3t_.+/=~:@-"
    secrets = {"good": good, "missing": None, "empty": "", "example": "change-me", "space": "two words", "quote": "o'n"}
    hosts = {
        name: {"common_wanted_secrets": ["vault_first", "vault_second"], "vault_first": good}
        | ({} if secret is None else {"vault_second": secret})
        for name, secret in secrets.items()
    }
    done = play(tmp_path, "preflight_secrets", hosts, together=False)
    assert done.returncode == 2
    assert answers_of("good", done.stdout) == []
    for name in secrets.keys() - {"good"}:
        said = " ".join(answers_of(name, done.stdout))
        assert "vault_second is not set, is change-me as in the example, or has characters other" in said
        assert "vault_first is not set" not in said
    assert not any(secret in done.stdout for secret in (good, "two words", "o'n"))


@pytest.mark.parametrize("role", ["common", "gpu_worker", "orchestrator", "transfer"])
def test_every_role_looks_for_its_secrets(role):
    assert "preflight_secrets" in (ROOT / "ansible/roles" / role / "tasks/preflight.yml").read_text()


def test_staging_is_told_of_its_own_vault(tmp_path):
    hosts = {"orch": {"common_wanted_secrets": ["vault_first"]}}
    done = play(tmp_path, "preflight_secrets", hosts, groups={"staging": ["orch"]})
    assert "ansible-vault edit group_vars/vault-staging.yml" in " ".join(answers_of("orch", done.stdout))


def test_the_example_allows_the_characters_that_the_check_allows():
    check = (ROOT / "ansible/roles/common/tasks/preflight_secrets.yml").read_text()
    allowed = re.search(r"characters other than ([^.]*\..*?)\.\n", check)
    assert allowed
    example = (ROOT / "ansible/group_vars/vault.yml.example").read_text()
    assert f"# Use only {allowed[1]}, because" in example
    for sign in re.findall(r" ([^\w\s])(?= |$)", allowed[1]):
        assert re.search(rf"\[A-Za-z0-9[^\]]*{re.escape(sign)}[^\]]*\]", check), sign


@pytest.mark.parametrize(
    ("password", "says"),
    [
        (
            None,
            "no password was given. Put the vault's password into a file and run export",
        ),
        pytest.param("another", "it has another password.", marks=pytest.mark.thorough),
    ],
)
def test_a_vault_that_cannot_be_opened_comes_with_a_hint(tmp_path, password, says):
    shutil.copytree(ROOT / "ansible", tmp_path / "ansible", symlinks=True)
    (tmp_path / "right").write_text("right\n")
    env = {name: value for name, value in os.environ.items() if name != "ANSIBLE_VAULT_PASSWORD_FILE"}

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [BIN / words[0], *words[1:]]
        return subprocess.run(
            command, cwd=tmp_path / "ansible", env={**env, **more}, capture_output=True, text=True, check=False
        )

    example, vault = Path("group_vars/vault.yml.example"), "group_vars/vault.yml"
    words = ("encrypt", str(example), "--output", vault, "--vault-password-file", "../right")
    assert run("ansible-vault", *words).returncode == 0
    if password:
        (tmp_path / "wrong").write_text(f"{password}\n")
    given = {"ANSIBLE_VAULT_PASSWORD_FILE": "../wrong"} if password else {}
    done = run("ansible-playbook", "playbooks/start-workers.yml", **given)
    assert done.returncode != 0
    assert f"{vault} cannot be opened: {says}" in " ".join(done.stderr.split())
