"""`audio-pipeline config | db | models`: settings and their origins, checks of the services, and each error message."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

import pytest

from db import Database
from local.services.postgres import ADMIN, bin_dir
from moderation.policies import load_policies
from tests.cli.conftest import FAILED, letter

ROOT = Path(__file__).resolve().parents[2]

SECRETS = ("REDIS_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "POSTGRES_PASSWORD")


@pytest.fixture
def env_file(tmp_path):
    """Write a settings file -> its path."""

    def write(text: str) -> str:
        path = tmp_path / "settings.env"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def bare(services):
    """The name of a database without any tables."""
    name = f"bare_{secrets.token_hex(6)}"
    connection = services.postgres.admin()
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    yield name
    services.drop_database(name)


def test_every_setting_is_shown_with_where_it_came_from_and_no_secret(cli, cli_env, env_file, tmp_path):
    (tmp_path / "redis_password").write_text("from-a-credential\n")
    lines = [
        "MAX_ATTEMPTS=5",
        "WORKER_HOST=not-this",
        "export BATCH_SIZE='8' # of windows, don't ask",
        "",
        "# S3_REGION=x",
    ]
    file = env_file("\n".join(lines))
    shown = [
        cli(
            "--env-file", file, "config", "show", *how, REDIS_PASSWORD="shh-secret", CREDENTIALS_DIRECTORY=str(tmp_path)
        )
        for how in (["--json"], [])
    ]
    found = json.loads(shown[0].stdout)
    assert found["WORKER_HOST"] == {"value": "test-host", "from": "environment"}
    assert found["MAX_ATTEMPTS"] == {"value": "5", "from": file}
    assert found["BATCH_SIZE"] == {"value": "8", "from": file}
    assert found["MAX_CLIP_S"] == {"value": "1800.0", "from": "default"}
    assert found["S3_REGION"]["from"] == "environment"
    assert {name: found[name]["value"] for name in SECRETS} == dict.fromkeys(SECRETS, "(set)")
    rows = {line.split()[0]: line.split()[1:] for line in shown[1].stdout.splitlines()}
    assert rows.pop("SETTING") == ["VALUE", "FROM"]
    assert set(rows) == set(found)
    assert rows["MAX_ATTEMPTS"] == ["5", file]
    for done in shown:
        assert not [name for name in SECRETS if cli_env[name] in done.stdout]
        assert "shh-secret" not in done.stdout + done.stderr


def test_a_credential_of_systemd_is_named_as_such(begin, cli_env, tmp_path):
    (tmp_path / "redis_password").write_text("from-a-credential\n")
    del cli_env["REDIS_PASSWORD"]
    cli_env["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    said, _ = begin("config", "show", "--json").communicate(timeout=60)
    assert json.loads(said)["REDIS_PASSWORD"] == {"value": "(set)", "from": "credential"}
    assert "from-a-credential" not in said


def test_a_settings_file_is_read_as_shells_read_it(cli, env_file):
    for line, value in (("a#b", "a#b"), ("'# *' # archives", "# *"), ('"it\'s" # that', "it's"), ("\\#x", "#x")):
        file = env_file(f"TRANSFER_GLOB={line}\nSCRATCH_ROOT=/file\n")
        found = json.loads(cli("config", "show", "--json", SCRATCH_ROOT="/env", AUDIO_PIPELINE_ENV_FILE=file).stdout)
        assert found["TRANSFER_GLOB"] == {"value": value, "from": file}
        assert found["SCRATCH_ROOT"] == {"value": "/env", "from": "environment"}


def test_a_settings_file_that_is_malformed_is_named_with_its_line(cli, env_file, tmp_path):
    for text, why in (
        ("A=1\nMAX ATTEMPTS=3\n", ":2: a line must be NAME=value"),
        ("# yes\n\nA='1\n", ":3: No closing quotation"),
        ("just words", ":1: a line must be NAME=value"),
        ("1A=2", ":1: a line must be NAME=value"),
    ):
        file = env_file(text)
        done = cli("config", "show", AUDIO_PIPELINE_ENV_FILE=file)
        assert (done.returncode, done.stdout) == (78, "")
        assert done.stderr.startswith(f"{file}{why}"), done.stderr
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "cannot be read" in cli("--env-file", str(tmp_path / "binary"), "config", "show").stderr
    assert cli("--env-file", str(tmp_path / "none"), "config", "show").returncode == 2


def test_a_setting_from_the_file_is_used_and_a_wrong_one_ends_with_78(cli, env_file):
    wrong = cli("--env-file", env_file("MAX_ATTEMPTS=many\n"), "status")
    assert (wrong.returncode, wrong.stdout) == (78, "")
    assert wrong.stderr == "MAX_ATTEMPTS is 'many', but it must be a number; for example MAX_ATTEMPTS=3\n"
    missing = cli("config", "check", S3_ENDPOINT="")
    assert missing.returncode == 78
    assert missing.stderr.startswith("S3_ENDPOINT is not set")


def test_every_dependency_is_checked_in_a_line_of_its_own(cli):
    good = cli("config", "check")
    assert good.returncode == 0, good.stdout
    found = [line.replace(";", "").split()[:2] for line in good.stdout.splitlines()]
    assert found == [[name, "good"] for name in ("Redis", "Postgres", "clocks", "policies", "S3", "scratch")]
    assert "policies  good; hate-speech@1.0.0, " in good.stdout


def test_a_host_that_unpacks_nothing_has_no_scratch_and_gets_none(cli, tmp_path):
    done = cli("config", "check", SCRATCH_ROOT=str(tmp_path / "data/scratch"))
    assert done.returncode == 0
    assert f"{tmp_path / 'data'} does not exist" in done.stdout
    assert not (tmp_path / "data").exists()


def test_a_dependency_that_is_not_as_needed_is_named_with_its_setting(cli):
    for setting, wrong, bad, said in (
        ("REDIS_PORT", "1", {"Redis"}, "check that it runs and REDIS_HOST, REDIS_PORT"),
        ("REDIS_PASSWORD", "wrong", {"Redis"}, "Redis refuses our password; check REDIS_PASSWORD"),
        ("POSTGRES_PORT", "1", {"Postgres", "clocks", "policies"}, "Postgres at 127.0.0.1:1 cannot be used"),
        ("POSTGRES_PASSWORD", "wrong", {"Postgres", "clocks", "policies"}, "POSTGRES_PASSWORD"),
        ("POLICIES_DIR", "/nowhere", {"policies"}, "no directory of policies at /nowhere; correct POLICIES_DIR"),
        ("S3_BUCKET", "no-such-bucket", {"S3"}, "has no bucket no-such-bucket; create it or set S3_BUCKET"),
        ("S3_SECRET_KEY", "wrong", {"S3"}, "check S3_ACCESS_KEY, S3_SECRET_KEY"),
        ("S3_ENDPOINT", "http://127.0.0.1:1", {"S3"}, "check S3_ENDPOINT"),
        ("SCRATCH_MOUNT", "/nowhere", {"scratch"}, "SCRATCH_MOUNT is /nowhere, but nothing is mounted there"),
        ("SCRATCH_ROOT", "/proc/none", {"scratch"}, "SCRATCH_ROOT /proc/none cannot be written"),
    ):
        done = cli("config", "check", **{setting: wrong})
        assert done.returncode == 1, setting
        lines = {line.split()[0]: line for line in done.stdout.splitlines()}
        assert len(lines) == 6
        assert {name for name, line in lines.items() if not line.removeprefix(name).strip().startswith("good")} == bad
        assert any(said in lines[name] for name in bad), done.stdout
        assert "wrong" not in done.stdout
        assert done.stdout.count("Postgres at") <= 1, "one cause is told once"


def test_a_policy_that_was_edited_without_a_new_version_is_found(cli, settings, tmp_path):
    shutil.copy(ROOT / "policies/hate-speech.md", tmp_path)
    database = Database(settings)
    database.record_policies(load_policies(tmp_path), tmp_path)
    database.close()
    assert cli("config", "check", POLICIES_DIR=str(tmp_path)).returncode == 0
    file = tmp_path / "hate-speech.md"
    file.write_text(file.read_text().replace("## Overview\n", "## Overview\n\nEdited.\n"))
    done = cli("config", "check", POLICIES_DIR=str(tmp_path))
    assert done.returncode == 1
    assert f"policies  {file} has been edited, but still says version 1.0.0" in done.stdout


def test_the_schema_is_applied_by_an_administrator_again_and_again(cli, services, bare, database):
    password = services.postgres.password(ADMIN)
    path = f"{bin_dir()}:{os.environ['PATH']}"
    missing = cli("db", "check", POSTGRES_DB=bare)
    assert missing.returncode == 1
    assert f"the database {bare} has schema version 0, but this release needs" in missing.stderr
    for _ in range(2):
        done = cli("db", "init", POSTGRES_DB=bare, PGPASSWORD=password, PATH=path)
        assert (done.returncode, done.stdout) == (0, f"schema.sql is applied to {bare}\n"), done.stderr
        assert cli("db", "check", POSTGRES_DB=bare).stdout == f"{bare}: good\n"

    for user, key, said in (
        ("nobody", password, f"is nobody an administrator of {database.name}?"),
        ("pipeline", services.postgres.password("pipeline"), "is pipeline an administrator of"),
    ):
        refused = cli("db", "init", "--user", user, PGPASSWORD=key, PATH=path)
        assert refused.returncode == 1
        assert refused.stderr.startswith("schema.sql was not applied: ")
        assert said in refused.stderr
        assert key not in refused.stderr
    away = cli("db", "init", "--host", "/nowhere", PGPASSWORD=password, PATH=path)
    assert away.returncode == 1
    assert "/nowhere" in away.stderr
    none = cli("db", "init", PATH="/nowhere")
    assert none.returncode == 69
    assert none.stderr == "psql is not on the PATH; install the PostgreSQL client\n"


def test_models_are_listed_and_verified(cli, tmp_path):
    listed = cli("models", "list", S3_ENDPOINT="")
    assert listed.returncode == 0
    lines = listed.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == ["production", "demo"]
    assert [line.split()[-1] for line in lines if line.split()[0] in {"whisper-base", "gemma-3-270m"}] == ["here"] * 2
    verified = cli("models", "verify", "demo")
    assert verified.returncode == 0, verified.stderr
    assert "gemma-3-270m: all 7 files are correct" in verified.stdout
    missing = cli("models", "verify", "demo", MODELS_ROOT=str(tmp_path / "none"))
    assert missing.returncode == 1
    assert f"whisper-base is missing: there is no folder {tmp_path}/none/demo/whisper-base; run " in missing.stderr
    unknown = cli("models", "verify", "huge")
    assert unknown.returncode == 1
    assert "there is no model set 'huge'; MODEL_SET may be demo or production" in unknown.stderr


def test_the_exit_code_says_what_kind_of_error_it_is(cli, redis_db):
    redis_db.rpush(FAILED, letter(1))
    for code, words, settings in (
        (0, ["failed", "list"], {}),
        (1, ["failed", "show", "none"], {}),
        (2, ["failed", "lists"], {}),
        (69, ["failed", "list"], {"REDIS_PORT": "1"}),
        (69, ["reconcile", "--dry-run"], {"S3_ENDPOINT": "http://127.0.0.1:1"}),
        (78, ["worker", "list"], {"REDIS_PORT": "0x1"}),
    ):
        done = cli(*words, **settings)
        assert done.returncode == code, (words, done.stderr)
        assert bool(done.stderr) == bool(code)
        assert done.stderr.count("\n") == bool(done.stderr) or code == 2, "one sentence"
