"""Which release a rollback goes back to, with hosts in several states."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.ansible.local_play import play, release_of


def host(folder: Path, name: str, now: str, before: str, switched_at: int) -> None:
    home = folder / name
    home.mkdir()
    (home / "current").symlink_to(f"releases/{now}")
    if before:
        (home / "previous").symlink_to(f"releases/{before}")
        os.utime(home / "previous", (switched_at, switched_at), follow_symlinks=False)


def find(folder: Path, *hosts: tuple[str, str, int]) -> list[str] | str:
    """The release that each host switches to, or Ansible's error message."""
    names = [f"host-{number}" for number in range(len(hosts))]
    for name, facts in zip(names, hosts, strict=True):
        host(folder, name, *facts)
    done = play(folder, "rollback_find", {name: {} for name in names})
    return [release_of(folder, name) for name in names] if done.returncode == 0 else done.stdout + done.stderr


def test_all_go_back_to_the_one_before(tmp_path):
    assert find(tmp_path, ("v3", "v2", 10), ("v3", "v2", 20), ("v3", "v2", 15)) == ["v2", "v2", "v2"]


@pytest.mark.thorough
def test_after_half_a_deploy_the_hosts_that_it_did_not_reach_stay(tmp_path):
    assert find(tmp_path, ("v3", "v2", 20), ("v2", "v1", 11), ("v2", "v1", 12)) == ["v2", "v2", "v2"]


@pytest.mark.thorough
def test_after_half_a_deploy_of_what_was_rolled_back_before(tmp_path):
    assert find(tmp_path, ("v2", "v3", 11), ("v3", "v2", 20), ("v2", "v3", 12)) == ["v2", "v2", "v2"]


@pytest.mark.thorough
def test_where_there_is_no_one_release_nothing_is_done(tmp_path):
    said = find(tmp_path, ("v3", "v2", 20), ("v3", "", 0))
    assert isinstance(said, str)
    assert "pipeline_version=VERSION" in said
