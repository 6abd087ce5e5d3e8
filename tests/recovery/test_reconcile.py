"""After Redis lost all or some data: batches that were under way are brought back, and nothing else changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
import redis

from config import Settings
from jobs.dead_letters import DeadLetters
from jobs.job_queue import UNPACK, ClipRef
from jobs.payloads import parse_unpack_job
from jobs.queue_snapshot import MEMORY
from recovery.reconcile import Reconciler
from tests.recovery.standing_batches import Site

SRC = Path(__file__).resolve().parents[2] / "src"
GONE = "Redis knows nothing of it"


@pytest.fixture
def reconciler(site: Site, settings: Settings) -> Reconciler:
    return Reconciler(site.client, site.db, site.store, DeadLetters(site.client, settings.scratch_root))


def planned(reconciler: Reconciler) -> dict[str, str]:
    """Batch id -> why it is to be brought back."""
    return {restart.job.batch_id: restart.reason for restart in reconciler.plan(archives=True)}


def waiting(client: redis.Redis) -> list[str]:
    """Batches whose archives wait to be unpacked."""
    return [parse_unpack_job(payload).batch_id for payload in cast("list[bytes]", client.lrange(UNPACK, 0, -1))]


def in_every_state(site: Site) -> None:
    for batch_id in ("given-up", "complete", "begun", "untouched"):
        site.transfer(batch_id)
    site.give_up_archive("given-up")
    site.unpack("complete", ["a.mp3"])
    site.transcribe("a.mp3")
    site.unpack("begun", ["b.mp3", "c.mp3", "d.mp3"])
    site.transcribe("b.mp3")


def command(settings_env: dict[str, str], *arguments: str) -> str:
    env = {"PATH": os.environ["PATH"], **settings_env}
    return subprocess.run(
        [sys.executable, "cli.py", "reconcile", *arguments],
        cwd=SRC,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_after_redis_lost_everything_all_that_is_not_complete_is_brought_back(site, reconciler):
    in_every_state(site)
    site.client.flushdb()
    restarts = reconciler.plan(archives=True)
    assert {restart.job.batch_id: restart.reason for restart in restarts} == {
        "given-up": GONE,
        "begun": GONE,
        "untouched": "its archive never got a job",
    }
    assert {restart.job.s3_key for restart in restarts} == {
        f"archives/{restart.job.batch_id}.tar" for restart in restarts
    }
    reconciler.apply(restarts)
    assert sorted(waiting(site.client)) == ["begun", "given-up", "untouched"]
    assert reconciler.plan(archives=True) == []


def test_a_batch_that_is_brought_back_skips_done_clips_and_counts_right(site, reconciler):
    site.transfer("begun")
    site.unpack("begun", ["b.mp3", "c.mp3", "d.mp3"])
    site.transcribe("b.mp3")
    site.client.flushdb()
    reconciler.apply(reconciler.plan(archives=True))
    site.unpack("begun", ["b.mp3", "c.mp3", "d.mp3"], host="host-2")
    assert site.batches.pending("begun") == {"c.mp3", "d.mp3"}
    assert site.client.get("batch:begun:processed") == b"1"
    site.transcribe("c.mp3", "d.mp3", host="host-2")
    assert site.db.batch_finished("begun")
    assert site.db.unfinished_batches() == []
    assert planned(reconciler) == {}


def test_nothing_that_is_under_way_is_touched(site, reconciler):
    """Waiting, delayed or in flight, and an archive that a person must decide about."""
    in_every_state(site)
    queue, claim = site.claim_clip("c.mp3")
    queue.retry_later(claim, 1000, failed=True)
    site.claim_clip("d.mp3")
    site.transfer("in-flight")
    site.transfer("delayed")
    site.claim_archive("untouched")
    queue, claim = site.claim_archive("in-flight")
    site.db.begin_unpack(parse_unpack_job(claim.payload))
    queue, claim = site.claim_archive("delayed")
    queue.retry_later(claim, 1000, failed=True)
    before = site.content()
    assert planned(reconciler) == {}
    reconciler.apply(reconciler.plan(archives=True))
    assert site.content() == before


def test_a_settled_batch_whose_keys_still_stand_is_left_to_the_gpu_workers(site, reconciler):
    site.transfer("settled")
    site.unpack("settled", [])
    assert site.batches.finishing() == ["settled"]
    assert planned(reconciler) == {}


@pytest.mark.parametrize("place", ["waiting", "in flight", "delayed"])
def test_a_clip_whose_job_vanished_is_found_wherever_it_vanished_from(site, reconciler, place):
    site.transfer("begun")
    site.unpack("begun", ["a.mp3", "b.mp3"])
    if place == "waiting":
        site.client.lpop("queue:transcribe:host-1")
    else:
        queue, claim = site.claim_clip("a.mp3")
        if place == "delayed":
            queue.retry_later(claim, 1000, failed=True)
            site.client.delete("queue:delayed")
        else:
            site.client.delete(queue.inflight_key(claim.queue))
    assert planned(reconciler) == {"begun": "1 of its clips have no job"}
    reconciler.apply(reconciler.plan(archives=True))
    assert waiting(site.client) == ["begun"]
    assert site.client.keys("batch*") == []
    assert site.client.keys("queue:transcribe*") == [], "the other clip's job goes too: the archive brings both"
    assert planned(reconciler) == {}


@pytest.mark.thorough
def test_keys_that_are_gone_while_jobs_still_stand_bring_no_clip_back_twice(site, reconciler):
    site.transfer("begun")
    site.unpack("begun", ["a.mp3", "b.mp3", "c.mp3"])
    queue, claim = site.claim_clip("a.mp3")
    queue.retry_later(claim, 1000, failed=True)
    in_flight = site.claim_clip("b.mp3")
    site.client.delete(*site.client.keys("batch:begun:*"))
    assert planned(reconciler) == {"begun": GONE}
    reconciler.apply(reconciler.plan(archives=True))
    assert site.client.keys("queue:transcribe*") == site.client.keys("queue:delayed") == []
    assert site.client.hlen("queue:attempts") == 0
    site.unpack("begun", ["a.mp3", "b.mp3", "c.mp3"])
    assert site.client.llen("queue:transcribe:host-1") == 3
    worker, claim = in_flight
    assert worker.settle(claim, clip=ClipRef("begun", "b.mp3")) == "lost", "its clip has a new job, which will count"
    assert site.batches.pending("begun") == {"a.mp3", "b.mp3", "c.mp3"}


def test_an_archive_that_was_given_up_is_left_to_a_person_also_after_a_retry(site, reconciler, settings):
    in_every_state(site)
    letters = DeadLetters(site.client, settings.scratch_root)
    [raw] = letters
    assert planned(reconciler) == {}
    letters.retry(letters.parse(raw))
    assert planned(reconciler) == {}, "its job waits"
    assert waiting(site.client) == ["untouched", "given-up"]


def test_a_broken_clip_of_a_batch_that_is_brought_back_has_no_second_letter(site, reconciler):
    site.transfer("begun")
    site.unpack("begun", ["a.mp3", "b.mp3"])
    site.give_up_clip("a.mp3")
    site.client.delete("queue:transcribe:host-1")
    reconciler.apply(reconciler.plan(archives=True))
    assert waiting(site.client) == ["begun"]
    assert site.client.llen("queue:failed") == 0
    site.unpack("begun", ["a.mp3", "b.mp3"])
    site.give_up_clip("a.mp3")
    assert site.client.llen("queue:failed") == 1


def test_payloads_and_letters_that_nobody_can_read_are_in_nobodys_way(site, reconciler):
    in_every_state(site)
    junk = [b"\xff", b"[" * 100_000, b"null", b'{"batch_id": 7}']
    for key in (UNPACK, "queue:transcribe", "queue:failed"):
        site.client.rpush(key, *junk)
    site.client.rpush("inflight:made by hand", b"x")
    assert planned(reconciler) == {}
    site.client.delete("queue:transcribe:host-1")
    assert planned(reconciler) == {"begun": "2 of its clips have no job"}


def test_objects_that_are_no_archives_of_ours_get_no_jobs(site, reconciler):
    for key in ("archives/.hidden.tar", "archives/a/b.tar", "archives/notes.txt", "processed/x.tar"):
        site.store.client.put_object(Bucket=site.store.bucket, Key=key, Body=b"x")
    assert planned(reconciler) == {}


@pytest.mark.thorough
def test_a_dry_run_says_what_would_change_and_changes_nothing(site, reconciler, settings_env):
    in_every_state(site)
    site.client.flushdb()
    site.client.set("something", "else")
    before = site.content()
    said = command(settings_env, "--dry-run")
    assert site.content() == before
    assert f"begun: {GONE}\n" in said
    assert said.endswith("3 batches would be brought back\n")
    assert set(planned(reconciler)) == {"given-up", "begun", "untouched"}


@pytest.mark.thorough
def test_the_command_brings_everything_back_and_a_second_one_finds_nothing_to_do(site, settings_env):
    in_every_state(site)
    site.client.flushdb()
    assert command(settings_env, "--yes").endswith("3 batches brought back\n")
    assert sorted(waiting(site.client)) == ["begun", "given-up", "untouched"]
    before = site.content()
    assert command(settings_env, "--yes") == "Redis agrees with Postgres\n"
    assert site.content() == before


def test_a_starting_worker_looks_for_forgotten_archives_only_when_redis_is_empty(site, reconciler):
    site.client.set(MEMORY, 1)
    site.transfer("never-queued")
    site.client.delete(UNPACK)
    assert reconciler.at_start("w1") == []
    site.client.delete(MEMORY)
    assert reconciler.at_start("w2") == [], "w1 has looked a moment ago"
    site.client.delete("lease:reconcile")
    assert [restart.job.batch_id for restart in reconciler.at_start("w2")] == ["never-queued"]
    assert waiting(site.client) == ["never-queued"]
    assert site.client.exists(MEMORY)
