"""A host that is gone for good: it is watched first, then other hosts get its batches, and its queue is emptied."""

from __future__ import annotations

from typing import cast

import pytest
import redis

from jobs.batches import Batches
from jobs.dead_letters import DeadLetter
from jobs.job_queue import DELAYED, FAILED, HOSTS_SEEN, UNPACK, WorkerName, script
from jobs.payloads import TranscribeJob, parse_unpack_job
from recovery.lost_hosts import LostHosts
from tests.recovery.standing_batches import SCRATCH, Site
from tests.workers.processes import wait_until

OBSERVER = WorkerName("host-2", 7, "bb")
SILENT_S = 100.0  # a host silent for so long is overdue
WATCHED_S = 0.3  # and lost when we have watched it so long
NEVER_S = 1e6


@pytest.fixture
def watch(site: Site) -> LostHosts:
    return LostHosts(site.client, site.db, OBSERVER, SCRATCH, after_s=SILENT_S, ttl_s=WATCHED_S)


def beat(client: redis.Redis, host: str) -> None:
    """Note a sign of life of the host, as its workers do every few seconds."""
    worker = WorkerName(host, 1, "aa")
    script(client, "heartbeat")(keys=[worker.heartbeat_key, HOSTS_SEEN], args=["{}", 60_000, host])


def fall_silent(client: redis.Redis, host: str, for_s: float = SILENT_S + 1) -> None:
    """Set the host's last sign of life to this many seconds ago."""
    beat(client, host)
    client.zincrby(HOSTS_SEEN, -for_s, host)
    client.delete(WorkerName(host, 1, "aa").heartbeat_key)


def letters(client: redis.Redis) -> list[DeadLetter]:
    return [DeadLetter.parse(raw, SCRATCH) for raw in cast("list[bytes]", client.lrange(FAILED, 0, -1))]


def test_a_host_is_lost_when_it_is_overdue_and_has_been_watched(site, watch):
    fall_silent(site.client, "host-1")
    beat(site.client, "host-3")
    assert watch.look() == [], "every host looks overdue for a moment after Redis itself was away"
    wait_until(lambda: watch.look() == ["host-1"], "the host to be lost")


def test_a_host_that_is_silent_for_less_is_not_watched(site):
    watch = LostHosts(site.client, site.db, OBSERVER, SCRATCH, after_s=SILENT_S, ttl_s=0)
    fall_silent(site.client, "host-1", for_s=SILENT_S / 2)
    assert watch.look() == []
    site.client.zincrby(HOSTS_SEEN, -SILENT_S, "host-1")
    assert watch.look() == ["host-1"]


def test_nobody_gives_up_its_own_host(site):
    watch = LostHosts(site.client, site.db, OBSERVER, SCRATCH, after_s=SILENT_S, ttl_s=0)
    fall_silent(site.client, OBSERVER.host)
    fall_silent(site.client, "host-1")
    assert watch.look() == ["host-1"]


def test_a_host_that_is_seen_again_is_not_lost_and_its_silence_is_timed_anew(site):
    watch = LostHosts(site.client, site.db, OBSERVER, SCRATCH, after_s=SILENT_S, ttl_s=NEVER_S)
    fall_silent(site.client, "host-1")
    watch.look()
    watch._suspected["host-1"] -= NEVER_S  # as long as it takes
    beat(site.client, "host-1")
    assert watch.look() == []
    fall_silent(site.client, "host-1")
    assert watch.look() == [], "what was watched before it came back does not count"


def test_after_redis_was_away_hosts_are_watched_anew(site):
    watch = LostHosts(site.client, site.db, OBSERVER, SCRATCH, after_s=SILENT_S, ttl_s=NEVER_S)
    fall_silent(site.client, "host-1")
    watch.look()
    watch._suspected["host-1"] -= NEVER_S
    watch.forget()
    assert watch.look() == []
    watch._suspected["host-1"] -= NEVER_S
    assert watch.look() == ["host-1"]


def test_a_lost_hosts_batches_wait_for_another_host_and_its_own_queue_is_empty(site, watch):
    for batch_id in ("done", "begun", "elsewhere"):
        site.transfer(batch_id)
    site.unpack("done", ["a.mp3"])
    site.transcribe("a.mp3")
    site.unpack("begun", ["b.mp3", "c.mp3", "d.mp3"])
    site.transcribe("b.mp3")
    queue, claim = site.claim_clip("c.mp3")
    queue.retry_later(claim, 1000, failed=True)
    site.unpack("elsewhere", ["e.mp3"], host="host-3")
    fall_silent(site.client, "host-1")

    assert [job.batch_id for job in watch.retire("host-1")] == ["begun"]
    assert [parse_unpack_job(job).batch_id for job in site.client.lrange(UNPACK, 0, -1)] == ["begun"]
    assert site.client.keys("queue:transcribe:host-1") == site.client.keys(DELAYED) == []
    assert site.client.keys("batch:begun:*") == []
    assert site.client.keys("queue:attempts") == []
    assert site.client.zrange(HOSTS_SEEN, 0, -1) == []
    assert letters(site.client) == [], "its clips come back with their archive"
    assert site.client.llen("queue:transcribe:host-3") == 1
    assert site.batches.pending("elsewhere") == {"e.mp3"}

    site.unpack("begun", ["b.mp3", "c.mp3", "d.mp3"], host="host-3")
    site.transcribe("e.mp3", "c.mp3", "d.mp3", host="host-3")
    assert site.db.unfinished_batches() == []
    assert site.client.keys("batch*") == []


def test_a_broken_clip_of_a_lost_host_has_one_letter_in_the_end(site, watch):
    for batch_id in ("begun", "elsewhere"):
        site.transfer(batch_id)
    site.unpack("begun", ["a.mp3", "b.mp3"])
    site.unpack("elsewhere", ["c.mp3", "d.mp3"], host="host-3")
    site.give_up_clip("a.mp3")
    other = site.give_up_clip("c.mp3", host="host-3")
    watch.retire("host-1")
    assert [letter.raw for letter in letters(site.client)] == [other], "the clip is tried again"
    site.unpack("begun", ["a.mp3", "b.mp3"], host="host-3")
    site.transcribe("d.mp3", host="host-3")
    site.give_up_clip("a.mp3", host="host-3")
    assert [letter.clip for letter in letters(site.client)] == ["c.mp3", "a.mp3"]


def test_an_archive_that_was_given_up_is_left_to_a_person_when_its_host_is_lost(site, watch):
    site.transfer("begun")
    site.unpack("begun", ["a.mp3"])
    site.batches.cancel("begun", SCRATCH)
    site.transfer("begun")  # once more, by `batch requeue`, and now it is broken
    site.give_up_archive("begun")
    [before] = letters(site.client)
    assert watch.retire("host-1") == []
    assert letters(site.client) == [before]
    assert site.client.llen(UNPACK) == 0


def test_a_host_that_comes_back_finds_nothing_to_do_and_its_late_settle_counts_once(site, watch):
    site.transfer("begun")
    site.unpack("begun", ["a.mp3", "b.mp3"])
    _, claim = site.claim_clip("a.mp3")
    worker = site.worker()
    site.client.delete(*site.client.keys("worker:host-1:*"))
    assert worker.reap(), "dead workers' jobs are returned long before their host is lost"
    fall_silent(site.client, "host-1")
    watch.retire("host-1")
    beat(site.client, "host-1")
    assert site.worker().claim(["queue:transcribe:host-1"]) is None
    site.unpack("begun", ["a.mp3", "b.mp3"], host="host-3")
    assert worker.settle(claim) == "lost"
    site.transcribe("a.mp3", "b.mp3", host="host-3")
    assert site.db.unfinished_batches() == []


def test_clips_of_other_batches_in_a_lost_hosts_queue_become_dead_letters(site, watch):
    """Put there by hand, or by an unpack worker with another host's TRANSCRIBE_QUEUE."""
    site.transfer("elsewhere")
    site.unpack("elsewhere", ["a.mp3", "b.mp3", "c.mp3"], host="host-3")
    for clip in ("a.mp3", "b.mp3"):
        site.client.lmove("queue:transcribe:host-3", "queue:transcribe:host-1", "LEFT", "RIGHT")
        assert clip.encode() in site.client.lindex("queue:transcribe:host-1", -1)
    queue, claim = site.claim_clip("a.mp3")
    queue.retry_later(claim, 1000, failed=True)
    by_hand = TranscribeJob(opus_path=SCRATCH / "x" / "y.opus", batch_id="x", original_filename="y.mp3").to_json()
    site.client.rpush("queue:transcribe:host-1", b"\xff no job", by_hand)
    fall_silent(site.client, "host-1")

    assert watch.retire("host-1") == []
    assert site.client.keys("queue:transcribe:host-1") == site.client.keys(DELAYED) == []
    found = {(letter.batch_id, letter.clip): letter for letter in letters(site.client)}
    assert set(found) == {("elsewhere", "a.mp3"), ("elsewhere", "b.mp3"), (None, None), ("x", "y.mp3")}
    assert found[None, None].payload == b"\xff no job"
    for letter in found.values():
        assert letter.queue == "queue:transcribe:host-1"
        assert letter.error.startswith("host host-1, on whose disk this clip lay, is gone;")
        assert letter.fields["host"] == OBSERVER.host
    assert site.client.keys("queue:attempts") == []

    assert site.batches.pending("elsewhere") == {"c.mp3"}
    assert site.client.get("batch:elsewhere:failed") == b"2"
    site.transcribe("c.mp3", host="host-3")
    assert site.db.batch_finished("elsewhere")


def test_a_batch_whose_last_clips_are_buried_is_complete(site, watch):
    site.transfer("elsewhere")
    site.unpack("elsewhere", ["a.mp3"], host="host-3")
    site.client.rename("queue:transcribe:host-3", "queue:transcribe:host-1")
    watch.retire("host-1")
    assert Batches(site.client).finishing() == ["elsewhere"]
    finished = site.db.finish_batch("elsewhere")
    assert finished is not None
    assert (finished.total, finished.processed, finished.failed) == (1, 0, 1)


def test_retiring_a_host_twice_changes_nothing_more(site, watch):
    site.transfer("begun")
    site.unpack("begun", ["a.mp3"])
    fall_silent(site.client, "host-1")
    watch.retire("host-1")
    before = site.content()
    watch.retire("host-1")
    assert site.content() == before
