"""`audio-pipeline status`: the same numbers for people and machines, also when a service is down."""

from __future__ import annotations

import json

from tests.cli.conftest import letter


def test_an_empty_pipeline_needs_nobody(cli):
    done = cli("status")
    assert done.returncode == 0, done.stderr
    assert "Nothing needs a person." in done.stdout
    assert "\x1b" not in done.stdout  # plain when it is not a terminal


def test_jobs_that_nobody_takes_and_dead_letters_need_a_person(cli, redis_db):
    redis_db.rpush("queue:unpack", b'{"batch_id": "b1", "s3_key": "k"}')
    redis_db.rpush("queue:failed", letter(1), letter(2))
    done = cli("status", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert {queue["name"]: queue["depth"] for queue in found["queues"]} == {"queue:unpack": 1, "queue:failed": 2}
    assert [(group["stage"], group["count"]) for group in found["failures"]] == [("unpack", 2)]
    assert found["needs_a_person"] == [
        "2 dead letters wait for a decision", "archives wait, but no unpack worker is alive",
    ]  # fmt: skip


def test_a_service_that_is_down_is_named_and_costs_its_part_only(cli, redis_db):
    redis_db.rpush("queue:failed", letter(1))
    for down, setting in (("Postgres", "POSTGRES_PORT"), ("S3", "S3_ENDPOINT"), ("Redis", "REDIS_PORT")):
        wrong = "http://127.0.0.1:1" if setting == "S3_ENDPOINT" else "1"
        done = cli("status", "--json", **{setting: wrong})
        assert done.returncode == 1
        found = json.loads(done.stdout)
        assert list(found["down"]) == [down]
        assert bool(found["failures"]) == (down != "Redis")


def test_workers_show_what_they_do_and_a_drained_one_claims_nothing(cli, worker, redis_db, put_archive):
    unpack = worker("unpack", HEARTBEAT_TTL_S="5")
    unpack.wait_for("ready")
    drained = cli("worker", "drain", "--host", "test-host", "--wait", "20")
    assert drained.returncode == 0, drained.stderr
    put_archive(b"no archive", "b1")
    [seen] = json.loads(cli("worker", "list", "--json").stdout)["workers"]
    assert (seen["kind"], seen["state"]) == ("unpack", "draining")
    assert seen["memory_bytes"] > 1e6
    assert redis_db.llen("queue:unpack") == 1
    assert cli("worker", "resume", "--host", "test-host").returncode == 0
    unpack.wait_for("job given up")
    assert redis_db.llen("queue:unpack") == 0
