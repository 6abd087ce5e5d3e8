"""`audio-pipeline failed`: bulk retries that lose and double nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT, letter
from tests.workers.processes import wait_until

FAILED = "queue:failed"


def test_letters_are_listed_shown_and_exported(cli, redis_db, tmp_path):
    redis_db.rpush(FAILED, letter(1), letter(2, failed_at="2999-01-01T00:00:00+00:00"))
    listed = json.loads(cli("failed", "list", "--json").stdout)
    assert [entry["error"] for entry in listed] == [f"archives/b{n}.tar is damaged at member {n}" for n in (1, 2)]
    shown = cli("failed", "show", listed[0]["id"]).stdout
    assert "archives/b1.tar" in shown
    assert "attempts: 1" in shown
    assert [entry["id"] for entry in json.loads(cli("failed", "list", "--older", "1d", "--json").stdout)] == [
        listed[0]["id"]
    ]
    assert cli("failed", "export", str(tmp_path / "out.jsonl")).returncode == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    assert cli("failed", "list").stdout.count("ArchiveError") == 0  # the table shows sentences


def test_a_retry_asks_first_is_counted_and_recorded(cli, redis_db, actions):
    redis_db.rpush(FAILED, letter(1), letter(2), letter(3, error="no room here at all", error_class="RetryableError"))
    refused = cli("failed", "retry", "--all")
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    assert "2 dead letters would be" in cli("failed", "retry", "--cause", "damaged", "--dry-run").stdout
    assert redis_db.llen(FAILED) == 3
    assert "2 dead letters brought back" in cli("failed", "retry", "--cause", "DAMAGED", "--yes").stdout
    assert [json.loads(job)["batch_id"] for job in redis_db.lrange("queue:unpack", 0, -1)] == ["b1", "b2"]
    assert actions() == [("failed retry", "cause=DAMAGED", 2)]


def test_dropped_letters_are_gone_and_no_filter_means_nothing(cli, redis_db, actions):
    redis_db.rpush(FAILED, letter(1), letter(2))
    assert cli("failed", "drop", "--yes").returncode == 2
    assert cli("failed", "drop", "--batch", "b2", "--yes").returncode == 0
    assert [json.loads(raw)["error"] for raw in redis_db.lrange(FAILED, 0, -1)] == [
        "archives/b1.tar is damaged at member 1"
    ]
    assert actions() == [("failed drop", "batch=b2", 1)]


@pytest.mark.parametrize("struck_at", [1, 5_000])
def test_a_kill_in_the_middle_of_a_bulk_retry_loses_and_doubles_none(settings_env, redis_db, struck_at):
    letters = 10_000
    redis_db.rpush(FAILED, *(letter(number) for number in range(letters)))
    env = {"PATH": os.environ["PATH"], **settings_env}
    command = [sys.executable, str(ROOT / "src/cli.py"), "failed", "retry", "--all", "--yes"]
    running = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: redis_db.llen("queue:unpack") >= struck_at, "the retry to be under way")
    running.kill()
    running.wait()
    waiting = [json.loads(job)["batch_id"] for job in redis_db.lrange("queue:unpack", 0, -1)]
    left = [json.loads(json.loads(raw)["payload"])["batch_id"] for raw in redis_db.lrange(FAILED, 0, -1)]
    assert left
    assert sorted(waiting + left) == sorted(f"b{number}" for number in range(letters))
    subprocess.run(command, env=env, check=True, capture_output=True)
    waiting = [json.loads(job)["batch_id"] for job in redis_db.lrange("queue:unpack", 0, -1)]
    assert sorted(waiting) == sorted(f"b{number}" for number in range(letters))
