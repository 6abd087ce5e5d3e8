"""Which older releases a deploy keeps. The step runs on this machine, in a test folder."""

from __future__ import annotations

import os

import pytest

from tests.ansible.local_play import play

NAMES = ("v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8")  # from the oldest on


@pytest.mark.thorough
def test_the_oldest_releases_go_and_those_in_use_stay(tmp_path):
    home = tmp_path / "home"
    for number, name in enumerate(NAMES):
        (home / "venvs" / f"env-{name}").mkdir(parents=True)
        (home / "releases" / name).mkdir(parents=True)
        (home / "releases" / name / "venv").symlink_to(f"../../venvs/env-{name}")
        os.utime(home / "releases" / name, (number + 1, number + 1))
    (home / "current").symlink_to("releases/v8")
    (home / "previous").symlink_to("releases/v2")
    done = play(tmp_path, "prune", {"home": {"common_release_name": "v8", "common_releases_kept": 4}})
    assert done.returncode == 0, done.stdout + done.stderr
    # Four with the current one; the one before it is kept besides.
    assert sorted(path.name for path in (home / "releases").iterdir()) == ["v2", "v5", "v6", "v7", "v8"]
    left = sorted(path.name for path in (home / "venvs").iterdir())
    assert left == ["env-v2", "env-v5", "env-v6", "env-v7", "env-v8"]
