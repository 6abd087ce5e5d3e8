"""`audio-pipeline status`: the same numbers for people and machines, also when a service is down."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import redis

from jobs.queue_snapshot import MEMORY
from tests.cli.conftest import FAILED, Cli, ago, clip_letter, letter
from tests.workers.processes import wait_until
from tests.workers.programs import PATIENT, Program, heartbeat_state

WRONG = {"Redis": ("REDIS_PORT", "1"), "Postgres": ("POSTGRES_PORT", "1"), "S3": ("S3_ENDPOINT", "http://127.0.0.1:1")}


def read(cli: Cli, *arguments: str, **more: str) -> dict[str, Any]:
    done = cli("status", "--json", *arguments, **more)
    found = json.loads(done.stdout)
    assert done.returncode == (1 if found["needs_a_person"] else 0)
    return found


def heartbeat(redis_db: redis.Redis, worker: str, **more: object) -> None:
    """Write a heartbeat as a living worker does."""
    says = {"kind": "gpu", "state": "idle", "detail": "", "since": "2026-01-01T10:00:00+00:00", **more}
    redis_db.set(f"worker:{worker}", json.dumps(says), px=60_000)
    redis_db.zadd("hosts:seen", {worker.split(":", maxsplit=1)[0]: ago(0).timestamp()})


@pytest.fixture
def busy(redis_db, add, put):
    """A batch under way: 2 of its 6 clips done, one failed, one in hand, one waits here and one on gpu-01; and more."""
    add("batches", batch_id="b1", s3_key=put("archives/b1.tar"), unpacked_at=ago(600), unpack_host="gpu-01", total=6)
    for name, value in (("total", 6), ("processed", 2), ("failed", 1)):
        redis_db.set(f"batch:b1:{name}", value)
    redis_db.sadd("batch:b1:pending", "c", "d [1]", "e")
    here, there, held = (json.dumps({"batch_id": "b1", "original_filename": clip}) for clip in ("c", "e", "d [1]"))
    redis_db.rpush("queue:transcribe", here)
    redis_db.rpush("queue:transcribe:gpu-01", there)
    redis_db.rpush("inflight:queue:transcribe:gpu-01:100:n", held)
    waiting = {"batch_id": "b2", "s3_key": "archives/b2.tar", "transferred_at": ago(7300).isoformat()}
    redis_db.rpush("queue:unpack", json.dumps(waiting), b"no payload")
    redis_db.zadd("queue:delayed", {b"queue:transcribe\nn\n{}": 9e9})
    heartbeat(redis_db, "gpu-01:100:n", state="working", memory_bytes=3_000_000_000, scratch_free_bytes=5_000_000)
    heartbeat(redis_db, "up-01:7:n", kind="unpack")
    redis_db.set(MEMORY, 1)


def test_an_empty_pipeline_needs_nobody(cli):
    done = cli("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["QUEUE", "JOBS", "NEXT", "IS", "DONE", "IN", "HAND"],
        ["queue:unpack", "0", "0.0/min"],
        ["queue:failed", "0"],
        ["queue:delayed", "0"],
        [],
        ["0.0", "hours", "of", "audio", "per", "hour", "lately;", "0", "batches", "are", "not", "complete"],
        ["Nothing", "needs", "a", "person."],
    ]
    assert "\x1b" not in done.stdout, "plain when it is not a terminal"
    found = read(cli)
    assert found["needs_a_person"] == found["workers"] == found["hosts"] == found["batches"] == found["failures"] == []


@pytest.mark.usefixtures("busy")
def test_the_screen_shows_the_numbers_that_machines_get(cli):
    found = read(cli)
    queues = {queue["name"]: queue for queue in found["queues"]}
    depths = {name: queue["depth"] for name, queue in queues.items()}
    assert depths == {"queue:unpack": 2, "queue:transcribe": 1, "queue:transcribe:gpu-01": 1, "queue:failed": 0}
    assert 7300 <= queues["queue:unpack"]["oldest_s"] < 7400, "since its transfer"
    assert 600 <= queues["queue:transcribe"]["oldest_s"] < 700, "since its batch was unpacked"
    assert found["delayed"] == 1
    [batch] = found["batches"]
    assert batch == {
        "batch_id": "b1", "total": 6, "done": 2, "failed": 1, "in_flight": 1, "waiting": 2, "eta_s": None,
        "doubtful": 0, "not_judged": 0,
    }  # fmt: skip
    [job] = found["in_flight"]
    assert (job["queue"], job["worker"], job["clip"]) == ("queue:transcribe", "gpu-01:100:n", "d [1]")
    assert {host["host"]: host["workers"] for host in found["hosts"]} == {"gpu-01": 1, "up-01": 1}

    done = cli("status")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["queue:unpack", "2", "2.0", "h", "old", "0.1/min"] in rows
    assert ["queue:transcribe", "1", "10", "min", "old", "0.0/min", "1"] in rows
    assert ["queue:transcribe:gpu-01", "1", "10", "min", "old", "0.0/min"] in rows
    [of_batch] = [row for row in rows if row[:1] == ["b1"]]
    assert of_batch[-7:] == ["6", "1", "0", "0", "1", "2", "–"]
    [gpu] = [row for row in rows if row[:2] == ["gpu", "100"]]
    assert gpu[2:4] == ["gpu-01", "working"]
    assert gpu[-5:] == ["3.0", "GB", "b1", "d", "[1]"]
    assert any(row[:2] == ["gpu-01", "1"] and row[-2:] == ["5.0", "MB"] for row in rows)
    assert done.returncode == 0, "all of that is as it should be"


@pytest.mark.usefixtures("busy")
def test_everything_that_needs_a_person_is_said_and_nothing_else(cli, redis_db, settings_env, tmp_path):
    redis_db.delete("worker:gpu-01:100:n", "worker:up-01:7:n")
    redis_db.zadd("hosts:seen", {"gpu-01": ago(300).timestamp(), "up-01": ago(20).timestamp()})
    redis_db.rpush(FAILED, letter(1), clip_letter(2))
    env = {**settings_env, "HEARTBEAT_TTL_S": "30"}
    with Program(PATIENT, env, tmp_path / "patient.log") as worker:
        worker.wait_for("ready")
        redis_db.rpush("queue:patient", json.dumps({"until": "gate"}))
        wait_until(lambda: heartbeat_state(redis_db, worker).get("state") == "working", "the worker to work")
    lost = json.dumps({"batch_id": "b1", "original_filename": "d [1]"})
    redis_db.rpush("inflight:queue:transcribe:gpu-01:100:n", lost)
    heartbeat(redis_db, "gpu-02:9:n", kind="transfer", state="held", detail="the disk [x] is full")
    heartbeat(redis_db, "gpu-02:8:n", kind="transfer", state="held", detail="")
    heartbeat(redis_db, "gpu-02:7:n", kind="transfer", state="waiting", detail="2,000 clips wait: that is no trouble")
    redis_db.set("worker:not-ours", b"\xff")

    found = read(cli)
    [silent] = [reason for reason in found["needs_a_person"] if "silent" in reason]
    assert silent.startswith("host gpu-01 has been silent for 30")
    assert [reason for reason in found["needs_a_person"] if reason != silent] == [
        "transfer worker gpu-02:9:n is held: the disk [x] is full",
        "2 dead letters wait for a decision: run audio-pipeline failed list",
        "archives wait, but no unpack worker is alive",
        "clips wait, but no GPU worker is alive",
    ]
    dead = [job for job in found["in_flight"] if job["since"] is None]
    assert sorted(job["host"] for job in dead) == ["gpu-01", "test-host"], "killed with a job in hand"

    done = cli("status")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "! transfer worker gpu-02:9:n is held: the disk [x] is full" in lines
    assert [line for line in lines if line.startswith("! ")][-1].startswith("! host gpu-01 has been silent for 30")
    [dead_line] = [line.split() for line in lines if line.startswith("gpu-01:100:n")]
    assert dead_line == ["gpu-01:100:n", "gpu-01", "dead", "b1", "d", "[1]:", "runs", "again", "soon"]
    assert not any("Nothing needs a person" in line for line in lines)


@pytest.mark.usefixtures("busy")
def test_a_redis_that_was_emptied_needs_a_person_until_it_is_reconciled(cli, redis_db):
    assert read(cli)["needs_a_person"] == []
    redis_db.flushdb()
    reason = (
        "Redis was emptied, or is new, and 1 batches are not complete: run audio-pipeline reconcile, which "
        "shows what it would bring back and asks"
    )
    assert read(cli)["needs_a_person"] == [reason]
    assert f"! {reason}" in cli("status").stdout.splitlines()
    assert cli("reconcile", "--dry-run").returncode == 0
    assert read(cli)["needs_a_person"] == [reason], "nothing was brought back yet"
    assert cli("reconcile", "--yes").returncode == 0
    assert read(cli)["needs_a_person"] == ["archives wait, but no unpack worker is alive"]


def test_status_and_the_list_of_open_batches_count_alike(cli, add, redis_db):
    redis_db.set(MEMORY, 1)
    add("batches", batch_id="under-way", s3_key="k", unpacked_at=ago(9))
    add("batches", batch_id="waits", s3_key="k")
    add("batches", batch_id="over", s3_key="k", completed_at=ago(5))
    add("batches", batch_id="cancelled", s3_key="k", cancelled_at=ago(5))
    for batch, status in (("by-hand", "pending"), ("by-hand-done", "done"), ("by-hand-failed", "failed")):
        add("batches", batch_id=batch)
        add("audio_files", batch_id=batch, original_filename="a", status=status)
    opened = json.loads(cli("batch", "list", "--open", "--json").stdout)
    assert {batch["batch_id"]: batch["state"] for batch in opened} == {
        "under-way": "under way", "waits": "not unpacked", "by-hand": "injected",
    }  # fmt: skip
    assert read(cli)["activity"]["batches_open"] == 3


def test_a_key_that_is_no_text_is_in_nobodys_way(cli, redis_db):
    redis_db.rpush(b"queue:transcribe:\xff", b"{}")
    redis_db.zadd("hosts:seen", {b"\x1b[2J\xff": ago(0).timestamp()})
    assert [host["host"] for host in read(cli)["hosts"]] == ["\x1b[2J\\xff"]
    assert "\x1b" not in cli("status").stdout


@pytest.mark.usefixtures("busy")
def test_a_service_that_is_down_costs_its_own_part_only(cli, redis_db):
    redis_db.rpush(FAILED, letter(1))
    for down, (setting, wrong) in WRONG.items():
        found = read(cli, **{setting: wrong})
        assert list(found["down"]) == [down]
        assert found["needs_a_person"][0].startswith(f"{down} is down: {down}")
        assert f"{down.upper()}_" in found["down"][down], "it names settings to look at"
        seen = [bool(found[part]) for part in ("queues", "batches", "workers", "hosts", "failures", "in_flight")]
        assert seen == [down != "Redis"] * 6
        assert (found["activity"] is None) == (down == "Postgres")
        assert any(queue["oldest_s"] for queue in found["queues"]) == (down == "S3")
    one = cli("status", "--batch", "b1", **dict([WRONG["Redis"]]))
    assert one.returncode == 1
    assert "! Redis is down: " in one.stdout, "whether the batch is under way, only Redis knows"


@pytest.mark.thorough
def test_all_three_services_may_be_down(cli):
    done = cli("status", **dict(WRONG.values()))
    assert done.returncode == 1
    said = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("! ")]
    assert said == ["! Redis is down", "! Postgres is down", "! S3 is down"]


def test_failures_fall_together_by_stage_and_cause(cli, redis_db):
    reason = "{} cannot be read: {} of {} bytes, see /data/scratch/{}/x"
    texts = [("'a b.mp3'", 1, "7,000", "b1"), ('"c.mp3"', 22, "9", "b2"), ("'é.wav'", 3, "1.5", "b3")]
    redis_db.rpush(FAILED, *(clip_letter(1, error=reason.format(*text)) for text in texts))
    redis_db.rpush(FAILED, letter(1), letter(22), letter(3, error="no [b] room", error_class="RetryableError"), b"{}")
    groups = [(group["stage"], group["cause"], group["count"]) for group in read(cli)["failures"]]
    assert sorted(groups, key=lambda group: -group[2]) == groups
    assert sorted(groups) == [
        ("?", "an entry that is not a dead letter", 1),
        ("gpu", "AudioError: … cannot be read: … of … bytes, see …", 3),
        ("unpack", "ArchiveError: … is damaged at member …", 2),
        ("unpack", "RetryableError: no [b] room", 1),
    ]
    rows = [line.split(maxsplit=2) for line in cli("status").stdout.splitlines()]
    assert ["3", "gpu", "AudioError: … cannot be read: … of … bytes, see …"] in [
        [*row[:2], row[-1].strip()] for row in rows if row
    ]


@pytest.mark.usefixtures("busy")
def test_one_batch_can_be_looked_at_alone(cli, redis_db, add):
    add("batches", batch_id="over", s3_key="k", unpacked_at=ago(9), completed_at=ago(5))
    add("batches", batch_id="lost", s3_key="k", unpacked_at=ago(9))
    redis_db.set("batch:b3:total", 1)
    assert {batch["batch_id"] for batch in read(cli)["batches"]} == {"b1", "b3"}
    found = read(cli, "--batch", "b1")
    assert [batch["batch_id"] for batch in found["batches"]] == ["b1"]
    assert [job["batch_id"] for job in found["in_flight"]] == ["b1"]
    for batch, said in (
        ("over", "batch over is complete, so it has no jobs under way; see audio-pipeline batch show over\n"),
        ("nothing", "Postgres knows no batch nothing; audio-pipeline batch list shows those it knows\n"),
        ("lost", "batch lost is not complete, but Redis has no keys of it; run audio-pipeline reconcile\n"),
    ):
        done = cli("status", "--batch", batch)
        assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.usefixtures("busy")
def test_the_pace_of_the_last_minutes_tells_when_a_batch_will_be_done(cli, add, query):
    # Read at the full minute: what a minute's row says must not depend on when in a minute the test runs.
    [(minute,)] = query("SELECT date_trunc('minute', now())")
    add("batches", batch_id="before", unpack_host="gpu-01", unpacked_at=ago(120), completed_at=ago(60))
    add("batches", batch_id="far", unpack_host="gpu-02", unpacked_at=ago(100_000), completed_at=ago(60))

    def done(batch: str, minutes_ago: int, count: int, status: str = "done") -> None:
        for number in range(count):
            at = minute - timedelta(minutes=minutes_ago) + timedelta(seconds=5)
            add("audio_files", batch_id=batch, original_filename=f"{minutes_ago}-{number}-{status}", status=status,
                processed_at=at, duration_s=60.0)  # fmt: skip

    done("before", 3, 2)
    done("before", 4, 4, "no_speech")
    done("far", 5, 6)
    done("far", 6, 9, "failed")  # no pace
    done("far", 40, 9)  # too long ago

    found = read(cli)
    [(later,)] = query("SELECT date_trunc('minute', now())")
    passed = int((later - minute).total_seconds() // 60)
    activity = found["activity"]
    assert len(activity["clips_per_minute"]) == 15
    if not passed:  # the program may have looked a minute later
        assert activity["clips_per_minute"][-6:] == [0, 6, 4, 2, 0, 0]
    assert sorted(activity["clips_per_minute"])[-4:] == [0, 2, 4, 6]
    paces = {queue["name"]: queue["done_per_min"] for queue in found["queues"]}
    assert paces["queue:transcribe"] == pytest.approx(12 / 15)
    assert paces["queue:transcribe:gpu-01"] == pytest.approx(6 / 15)
    assert paces["queue:unpack"] == pytest.approx(2 / 15), "b1 and the one before"
    assert paces["queue:failed"] is None
    assert activity["audio_hours_per_hour"] in [pytest.approx(12 / (5 + minutes)) for minutes in range(passed + 1)]
    assert activity["batches_open"] == 1
    [batch] = found["batches"]
    assert batch["eta_s"] == [pytest.approx(60 * 3 / 6), pytest.approx(60 * 3 / 2)]
    assert "30 s to 90 s" in cli("status").stdout


def test_nothing_that_stands_in_redis_or_postgres_commands_the_terminal(cli, redis_db, add):
    evil = "a\x1b[2J\x9b\u202e\u2066\u061c\u200e\u2028\r\nb"
    add("batches", batch_id="b1", s3_key="k", original_filename=evil, unpacked_at=ago(9))
    add("audio_files", batch_id="b1", original_filename=evil, status="failed", error=evil)
    redis_db.rpush(FAILED, letter(1, error=evil, error_class=evil, clip=evil, payload=evil), evil.encode())
    redis_db.rpush(f"queue:transcribe:{evil}", b"{}")
    redis_db.set(f"batch:{evil}:total", 1)
    heartbeat(redis_db, f"{evil}:1:n", state=evil, detail=evil)
    [entry] = json.loads(cli("failed", "list", "--json").stdout)
    for words in (
        ["status"], ["batch", "list"], ["batch", "show", "b1"], ["failed", "list"], ["failed", "show", entry["id"]],
        ["worker", "list"], ["batch", "show", evil],
    ):  # fmt: skip
        for option in ([], ["--json"]) if words[0] != "failed" or words[1] == "list" else ([],):
            done = cli(*words, *option)
            assert not set("\x1b\x9b\u202e\u2066\u061c\u200e\u2028\r") & set(done.stdout + done.stderr), words
    assert entry["error"] == evil, "programs read what there was"
