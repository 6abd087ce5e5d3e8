"""`audio-pipeline config | db | --help`: what is set, what can be reached, and what the program says of itself."""

from __future__ import annotations

import json

import pytest


def test_every_setting_is_shown_with_its_origin_and_no_secret(cli, settings_env):
    shown = cli("config", "show", "--json")
    found = json.loads(shown.stdout)
    assert found["WORKER_HOST"] == {"value": "test-host", "from": "environment"}
    assert found["MAX_ATTEMPTS"] == {"value": "3", "from": "default"}
    for name in ("REDIS_PASSWORD", "S3_SECRET_KEY", "POSTGRES_PASSWORD"):
        assert settings_env[name] not in shown.stdout
        assert found[name]["value"] == "(set)"


def test_a_missing_setting_is_one_sentence_and_exit_code_78(cli):
    done = cli("status", REDIS_PORT="many")
    assert done.returncode == 78
    assert "REDIS_PORT is 'many'" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_dependency_is_checked_in_a_line_of_its_own(cli):
    good = cli("config", "check")
    assert good.returncode == 0, good.stdout
    assert [line.split()[:2] for line in good.stdout.splitlines()] == [
        [name, "good"] for name in ("Redis", "Postgres", "clocks", "S3", "scratch")
    ]
    bad = cli("config", "check", S3_BUCKET="no-such-bucket")
    assert bad.returncode == 1
    assert "has no bucket no-such-bucket" in bad.stdout


def test_the_database_is_checked(cli):
    assert "good" in cli("db", "check").stdout
    assert cli("db", "check", POSTGRES_PORT="1").returncode == 69


@pytest.mark.parametrize(
    "command", [[], ["status"], ["inject", "unpack"], ["failed", "retry"], ["batch", "requeue"], ["worker", "drain"],
                ["reconcile"], ["expire"], ["config", "check"], ["db", "init"], ["logs"]],
)  # fmt: skip
def test_help_on_every_level_needs_no_settings(cli, command):
    done = cli(*command, "--help", S3_ENDPOINT="")
    assert done.returncode == 0
    assert "Usage" in done.stdout
