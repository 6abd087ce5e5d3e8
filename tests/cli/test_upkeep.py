"""`audio-pipeline reconcile | expire`: batches under way are not changed, and nothing that is needed is deleted."""

from __future__ import annotations

import json

import pytest

from scratch import directories as scratch
from tests.cli.conftest import ago, jobs, kept, letter
from tests.workers.processes import wait_until


@pytest.fixture
def forgotten(add, put, redis_db):
    """A batch that Redis does not know, a batch with a clip that has no job, and one healthy batch of each kind."""
    for number, (name, columns) in enumerate(
        {
            "forgotten": {"unpacked_at": ago(60)},
            "lost-job": {"unpacked_at": ago(60)},
            "under-way": {"unpacked_at": ago(60)},
            "waiting": {},
            "given-up": {},
            "complete": {"completed_at": ago(5)},
            "cancelled": {"cancelled_at": ago(5)},
        }.items()
    ):
        add("batches", batch_id=name, s3_key=put(f"archives/{name}.tar"), created_at=ago(90 - number), **columns)
    put("archives/new.tar")
    for name in ("lost-job", "under-way"):
        redis_db.set(f"batch:{name}:total", 2)
        redis_db.sadd(f"batch:{name}:pending", "a.mp3", "b.mp3")
    for name, clips in (("lost-job", ["a.mp3"]), ("under-way", ["a.mp3", "b.mp3"])):
        for clip in clips:
            redis_db.rpush("queue:transcribe", json.dumps({"batch_id": name, "original_filename": clip}))
    redis_db.rpush("queue:unpack", json.dumps({"batch_id": "waiting", "s3_key": "archives/waiting.tar"}))
    redis_db.rpush("queue:failed", letter(1, payload=json.dumps({"batch_id": "given-up", "s3_key": "k"})))


@pytest.mark.usefixtures("forgotten")
def test_what_is_not_on_its_way_is_brought_back_once(cli, redis_db, actions):
    found = [
        "forgotten: Redis knows nothing of it",
        "lost-job: 1 of its clips have no job",
        "new: its archive never got a job",
    ]
    before = kept(redis_db)
    dry = cli("reconcile", "--dry-run")
    assert dry.returncode == 0
    assert dry.stdout.splitlines() == [*found, "3 batches would be brought back"]
    no = cli("reconcile", answer="n")
    assert no.returncode == 1
    assert "Unpack 3 archives again? [y/N]" in no.stdout
    assert "add --yes" in cli("reconcile").stderr
    assert kept(redis_db) == before
    assert actions() == []

    done = cli("reconcile", answer="y")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("3 batches brought back\n")
    assert [job["batch_id"] for job in jobs(redis_db)] == ["waiting", "forgotten", "lost-job", "new"]
    assert [job["batch_id"] for job in jobs(redis_db, "queue:transcribe")] == ["under-way", "under-way"]
    assert sorted(redis_db.keys("batch:*")) == [b"batch:under-way:pending", b"batch:under-way:total"]

    after = kept(redis_db)
    again = cli("reconcile", "--yes")
    assert (again.returncode, again.stdout) == (0, "Redis agrees with Postgres\n")
    assert kept(redis_db) == after
    assert actions() == [("reconcile", "batches", 3)]


def test_old_archives_of_complete_batches_are_deleted_and_no_others(cli, add, put, store, actions):
    for name, columns in {
        "over": {"completed_at": ago(5)},
        "over-too": {"completed_at": ago(5)},
        "requeued": {},
        "cancelled": {"cancelled_at": ago(5)},
    }.items():
        add("batches", batch_id=name, s3_key=put(f"archives/{name}.tar"), **columns)
    others = [put("archives/unknown.tar"), put("processed/2026-01-01/1.opus"), put("failed/over/00001.mp3")]
    others += ["archives/requeued.tar", "archives/cancelled.tar"]
    old = ["archives/over-too.tar", "archives/over.tar"]
    wait_until(lambda: all(at <= ago(0) for _, at in store.modified("")), "the clock to pass the uploads")

    young = cli("expire", "--yes")
    assert young.returncode == 0
    assert young.stdout.splitlines()[0] == "0 archives of complete batches, 7 days old or older"
    dry = cli("expire", "--days", "0", "--dry-run")
    assert dry.stdout.splitlines()[:3] == [
        *(f"would be deleted: {key}" for key in old), "2 archives of complete batches, 0 days old or older",
    ]  # fmt: skip
    assert "Delete 2 archives" in cli("expire", "--days", "0").stderr
    assert cli("expire", "--days", "0", answer="n").returncode == 1
    assert cli("expire", "--days", "-1").returncode == 2
    assert sorted(store.keys("")) == sorted([*old, *others])
    assert actions() == []

    assert "2 archives deleted" in cli("expire", "--days", "0", "--yes").stdout
    assert sorted(store.keys("")) == sorted(others)
    assert actions() == [("expire archives", "older than 0 days", 2)]


def test_an_archive_whose_batch_is_requeued_while_the_question_stands_stays(begin_asking, add, put, store, query):
    for name in ("a", "b"):
        add("batches", batch_id=name, s3_key=put(f"archives/{name}.tar"), completed_at=ago(5))
    wait_until(lambda: all(at <= ago(0) for _, at in store.modified("")), "the clock to pass the uploads")
    answer = begin_asking("expire", "--days", "0")
    query("UPDATE batches SET completed_at = NULL WHERE batch_id = 'a' RETURNING 1")
    assert "1 archive deleted" in answer("y")
    assert list(store.keys("")) == ["archives/a.tar"]


@pytest.mark.usefixtures("forgotten")
@pytest.mark.thorough
def test_a_batch_that_finds_its_way_while_the_question_stands_is_left_alone(begin_asking, redis_db):
    answer = begin_asking("reconcile")
    redis_db.rpush("queue:transcribe", json.dumps({"batch_id": "lost-job", "original_filename": "b.mp3"}))
    assert "2 batches brought back" in answer("y")
    assert [job["batch_id"] for job in jobs(redis_db)] == ["waiting", "forgotten", "new"]
    assert redis_db.scard("batch:lost-job:pending") == 2


def test_finished_batches_are_removed_from_this_hosts_scratch(cli, add, redis_db, settings, actions):
    root = settings.scratch_root
    for name in ("complete", "cancelled", "open", "under-way", "by-hand"):
        (root / name).mkdir()
        (root / name / "00001.opus").write_bytes(b"x")
        if name != "by-hand":
            (root / name / scratch.MARKER).touch()
    add("batches", batch_id="complete", unpacked_at=ago(9), completed_at=ago(5))
    add("batches", batch_id="cancelled", unpacked_at=ago(9), cancelled_at=ago(5))
    add("batches", batch_id="open", unpacked_at=ago(9))
    add("batches", batch_id="under-way", unpacked_at=ago(9), completed_at=ago(5))
    redis_db.set("batch:under-way:total", 2)

    before = sorted(path.name for path in root.iterdir())
    dry = cli("expire", "--dry-run")
    assert dry.stdout.splitlines()[1:] == [f"2 finished directories on scratch ({root})", "  cancelled", "  complete"]
    asked = cli("expire")
    assert asked.returncode == 1
    assert asked.stderr.startswith(f"Remove 2 finished directories from scratch ({root})? Nothing is changed")
    assert sorted(path.name for path in root.iterdir()) == before
    assert "2 finished directories removed from scratch" in cli("expire", "--yes").stdout
    assert sorted(path.name for path in root.iterdir()) == ["by-hand", "open", "under-way"]
    assert actions() == [("expire scratch", "test-host", 2)]
