"""The payload of the group's guide names no batch: repairs find its batch by the directory that holds its clip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from config import Settings
from db import AuditLog, DatabaseOverview
from errors import PermanentError
from jobs import dead_letters
from jobs.dead_letters import DeadLetters
from jobs.job_queue import DELAYED, FAILED, UNPACK, Claim, WorkerName
from recovery.batch_repairs import BatchRepairs
from recovery.lost_hosts import LostHosts
from recovery.reconcile import Reconciler
from tests.recovery.standing_batches import SCRATCH, Site

GUIDES = b'{"audio_id": 1, "opus_path": "/data/scratch/test-001/audio.opus"}'
OTHER = b'{"opus_path": "/data/scratch/test-002/audio.opus"}'
OWN_LIST = "queue:transcribe:host-1"
PLACES = ["queue:transcribe", OWN_LIST, "inflight:queue:transcribe:host-1:7:aa", DELAYED]


@pytest.fixture
def repairs(site: Site, settings: Settings) -> Iterator[BatchRepairs]:
    db, audit = DatabaseOverview(settings), AuditLog(settings)
    yield BatchRepairs(site.client, db, SCRATCH, audit)
    db.close()
    audit.close()


def put(site: Site, place: str, payload: bytes) -> None:
    if place == DELAYED:
        site.client.zadd(DELAYED, {b"queue:transcribe\nnonce\n" + payload: 9e9})
    else:
        site.client.rpush(place, payload)


def begun(site: Site, *payloads: bytes, place: str = OWN_LIST) -> None:
    """Batch test-001 with one clip; its job is replaced by the payloads."""
    site.transfer("test-001")
    site.unpack("test-001", ["audio.opus"])
    site.client.delete(OWN_LIST)
    for payload in payloads:
        put(site, place, payload)


def left(site: Site, place: str) -> list[bytes]:
    found = site.client.zrange(place, 0, -1) if place == DELAYED else site.client.lrange(place, 0, -1)
    return [member.split(b"\n")[-1] for member in cast("list[bytes]", found)]


@pytest.mark.parametrize("place", PLACES)
def test_a_cancelled_batch_leaves_no_such_job(site, repairs, place):
    begun(site, GUIDES, OTHER, place=place)
    assert repairs.cancel(repairs.plan_cancel("test-001")) == 1
    assert left(site, place) == [OTHER]


@pytest.mark.parametrize("place", PLACES)
def test_a_requeued_batch_leaves_no_such_job(site, repairs, place):
    begun(site, GUIDES, OTHER, place=place)
    repairs.requeue(repairs.plan_requeue("test-001", site.store, everything=False))
    assert left(site, place) == [OTHER]
    assert site.client.llen(UNPACK) == 1


def test_a_retired_hosts_batch_takes_such_a_job_with_it(site):
    begun(site, GUIDES, OTHER)
    lost = LostHosts(site.client, site.db, WorkerName("host-2", 7, "bb"), SCRATCH, after_s=1, ttl_s=1)
    assert [job.batch_id for job in lost.retire("host-1")] == ["test-001"]
    assert site.client.exists(OWN_LIST) == 0
    [letter] = DeadLetters(site.client, SCRATCH).read()
    assert (letter.batch_id, letter.clip, letter.payload) == ("test-002", "audio.opus", OTHER)


def test_reconcile_counts_such_a_job_as_the_clips_own(site):
    begun(site)
    reconciler = Reconciler(site.client, site.db, site.store, DeadLetters(site.client, SCRATCH))
    assert [restart.reason for restart in reconciler.plan(archives=False)] == ["1 of its clips have no job"]
    put(site, "queue:transcribe", GUIDES)
    assert reconciler.plan(archives=False) == []


def test_a_letter_that_names_no_batch_belongs_to_that_of_its_payload(site):
    claim = Claim("queue:transcribe", GUIDES, 0, 0)
    entry = dead_letters.write(claim, PermanentError("broken"), worker=WorkerName("h", 1, "n"))
    site.client.rpush(FAILED, entry)
    letters = DeadLetters(site.client, SCRATCH)
    assert letters.of_batch("test-001") == [entry]
    assert letters.archives() == set()
