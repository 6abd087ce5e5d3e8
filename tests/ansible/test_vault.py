"""The preflight names secrets that are missing or still the example's, and shows no secret."""

from __future__ import annotations

import pytest

from tests.ansible.local_play import ROOT, answers_of, play


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
