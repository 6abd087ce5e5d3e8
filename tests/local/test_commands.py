"""The commands that users type: the stand-in for redis-cli, the Makefile's help, the demo's environment file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from local import demo_paths
from local.services import Services
from local.services.commands import write_commands
from tests.local.helpers import ROOT, run


def stand_in(services: Services, *words: str, given: bytes = b"") -> str:
    env = os.environ | {
        "REDIS_PORT": str(services.redis_port),
        "REDIS_DB": "1",
        "REDISCLI_AUTH": services.redis_password,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "local.services.redis_cli", *words]
    done = subprocess.run(command, env=env, input=given, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


class TestRedisCliStandIn:
    """It accepts the command lines of the operator's guide, and prints what redis-cli prints into a pipe."""

    def test_numbers_texts_and_lists_are_bare(self, services: Services, redis_db: redis.Redis) -> None:
        redis_db.rpush("queue:unpack", "a", 'say "b"')
        assert stand_in(services, "LLEN", "queue:unpack") == "2\n"
        assert stand_in(services, "LRANGE", "queue:unpack", "0", "-1") == 'a\nsay "b"\n'
        assert stand_in(services, "GET", "nothing") == "\n"
        assert stand_in(services, "SET", "key", "value") == "OK\n"

    def test_the_last_argument_may_come_from_standard_input(self, services: Services, redis_db: redis.Redis) -> None:
        stand_in(services, "-x", "SET", "key", given=b"from a file")
        assert redis_db.get("key") == b"from a file"

    def test_an_error_is_shown_as_redis_says_it(self, services: Services) -> None:
        assert stand_in(services, "NONSENSE").startswith("(error) ")

    def test_a_server_that_is_away_is_one_sentence(self, services: Services) -> None:
        answer = stand_in(services, "-p", "1", "PING")
        assert answer.startswith("Could not talk to Redis at 127.0.0.1:1")
        assert "Traceback" not in answer


def test_the_machines_own_redis_cli_is_used_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "machine" / "redis-cli"
    real.parent.mkdir()
    real.write_text('#!/bin/sh\necho "$@"\n')
    real.chmod(0o755)
    monkeypatch.setenv("PATH", str(real.parent), prepend=os.pathsep)
    write_commands(tmp_path / "bin")
    env = os.environ | {"REDIS_HOST": "10.0.0.5", "REDIS_PORT": "7000", "REDIS_DB": "2"}
    assert run([tmp_path / "bin/redis-cli", "PING"], env) == "-h 10.0.0.5 -p 7000 -n 2 PING\n"


def test_the_environment_file_is_private_and_lets_a_shell_reach_the_demo(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "env"
    monkeypatch.setattr(demo_paths, "ENV_FILE", file)
    services.make_database()
    demo_paths.write_env_file(services)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    script = f'. "{file}" && redis-cli PING && psql -Atc "SELECT count(*) FROM ra_queue"'
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    assert run(["sh", "-c", script], plain) == "PONG\n0\n"


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    shown = run(["make", "-C", ROOT, "--no-print-directory", "help"], os.environ)
    assert [line.split()[1] for line in shown.splitlines()] == phony
