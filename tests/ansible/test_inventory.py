"""The preflight refuses an invalid inventory before it changes anything."""

from __future__ import annotations

from tests.ansible.local_play import answers_of, play


def test_a_host_is_in_one_group_or_is_named(tmp_path):
    groups = {"orchestrator": ["orch"], "gpu_workers": ["gpu-01", "both"], "transfer": ["transfer-01", "both"]}
    hosts = ("orch", "gpu-01", "transfer-01", "both", "stray")
    done = play(tmp_path, "preflight_inventory", {name: {} for name in hosts}, groups=groups, together=False)
    assert done.returncode == 2
    [both] = answers_of("both", done.stdout)
    assert "both is in gpu_workers and transfer; it must be in one of orchestrator, gpu_workers and transfer." in both
    [stray] = answers_of("stray", done.stdout)
    assert "stray is in none of the groups; it must be in one of" in stray
    assert [answers_of(name, done.stdout) for name in ("orch", "gpu-01", "transfer-01")] == [[], [], []]


def test_two_orchestrators_are_one_too_many(tmp_path):
    done = play(tmp_path, "preflight_inventory", {"a": {}, "b": {}}, groups={"orchestrator": ["a", "b"]})
    assert done.returncode == 2
    assert "has 2 hosts in the group orchestrator; it must be one." in answers_of("a", done.stdout)[0]


def test_staging_does_not_get_the_secrets_of_production(tmp_path):
    groups = {"orchestrator": ["orch"], "staging": ["orch"]}
    done = play(tmp_path, "preflight_inventory", {"orch": {}}, groups=groups)
    assert done.returncode == 2
    [said] = answers_of("orch", done.stdout)
    assert "orch is in staging, but group_vars/vault-staging.yml does not exist" in said

    vault = tmp_path / "group_vars/staging/vault.yml"
    vault.parent.mkdir(parents=True)
    vault.write_text("vault_redis_password: of-staging\n")
    assert play(tmp_path, "preflight_inventory", {"orch": {}}, groups=groups).returncode == 0
