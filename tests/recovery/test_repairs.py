"""Repairs without the command line: a plan changes nothing, the change does what the plan says, and is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from config import Settings
from db import AuditLog, DatabaseOverview, WantedResults
from errors import RefusedError, UnknownError
from jobs.dead_letters import DeadLetters
from jobs.job_queue import FAILED, UNPACK
from jobs.letter_filter import LetterFilter
from recovery.batch_repairs import BatchRepairs
from recovery.host_retirement import HostRetirement
from recovery.letter_repairs import LetterRepairs
from tests.recovery.standing_batches import SCRATCH, WANTED, Site

FOREIGN = b"not a letter"
ALL = LetterFilter(everything=True)


@pytest.fixture
def db(settings: Settings) -> Iterator[DatabaseOverview]:
    found = DatabaseOverview(settings)
    yield found
    found.close()


@pytest.fixture
def audit(settings: Settings, query: Callable[..., Any]) -> Iterator[AuditLog]:
    query("TRUNCATE operator_actions")
    log = AuditLog(settings)
    yield log
    log.close()


@pytest.fixture
def batches(site: Site, db: DatabaseOverview, audit: AuditLog) -> BatchRepairs:
    return BatchRepairs(site.client, db, SCRATCH, audit)


@pytest.fixture
def letters(site: Site, db: DatabaseOverview, audit: AuditLog) -> LetterRepairs:
    return LetterRepairs(site.client, db, DeadLetters(site.client, SCRATCH), audit)


@pytest.fixture
def recorded(query: Callable[..., Any]) -> Callable[[], list[tuple[Any, ...]]]:
    """The changes that have ended: (action, subject, affected)."""
    return lambda: query("SELECT action, subject, affected FROM operator_actions WHERE affected IS NOT NULL ORDER BY 1")


def under_way(site: Site) -> None:
    """Batch b1 on host-1: one of its three clips is done, one is a dead letter, one waits."""
    site.transfer("b1")
    site.unpack("b1", ["a.mp3", "b.mp3", "c.mp3"])
    site.transcribe("a.mp3")
    site.give_up_clip("b.mp3")


def archive_letter(site: Site, batch_id: str) -> None:
    site.transfer(batch_id)
    site.give_up_archive(batch_id)


def test_plans_change_nothing(site, batches, letters, query, recorded):
    under_way(site)
    archive_letter(site, "b2")
    before = site.content(), query("SELECT * FROM batches ORDER BY 1")
    batches.plan_requeue("b1", site.store, everything=True)
    batches.plan_cancel("b1")
    letters.plan_retry(ALL)
    letters.plan_drop(ALL)
    assert (site.content(), query("SELECT * FROM batches ORDER BY 1")) == before
    assert recorded() == []


@pytest.mark.parametrize(("everything", "clips"), [(False, 2), (True, 3)])
def test_a_requeued_batch_waits_again_without_its_letters(site, batches, recorded, everything, clips):
    under_way(site)
    plan = batches.plan_requeue("b1", site.store, everything=everything)
    assert (plan.batch_id, plan.clips, plan.everything) == ("b1", clips, everything)
    batches.requeue(plan)
    assert site.client.lrange(UNPACK, 0, -1) == [plan.job.to_json()]
    assert site.client.keys("queue:transcribe*") == site.client.keys(FAILED) == site.client.keys("batch:*") == []
    assert site.db.done_clips("b1", WANTED) == (set() if everything else {"a.mp3"})
    assert recorded() == [("batch requeue", "b1", clips)]


@pytest.mark.parametrize(("wanted", "clips"), [(None, 2), (WANTED, 2), (WantedResults("another model"), 3)])
def test_a_plan_counts_the_clips_that_lack_wanted_results(site, batches, wanted, clips):
    under_way(site)
    assert batches.plan_requeue("b1", site.store, everything=False, wanted=wanted).clips == clips


def test_a_batch_that_nobody_knows_is_refused(site, batches):
    with pytest.raises(UnknownError, match="Postgres knows no batch b9; audio-pipeline batch list"):
        batches.plan_requeue("b9", site.store, everything=False)
    with pytest.raises(UnknownError, match="Postgres knows no batch b9"):
        batches.plan_cancel("b9")


def test_a_batch_whose_archive_is_gone_is_not_requeued(site, batches):
    under_way(site)
    site.store.delete("archives/b1.tar")
    with pytest.raises(RefusedError, match=r"S3 has no object archives/b1\.tar .* bring the archive back"):
        batches.plan_requeue("b1", site.store, everything=False)


def test_a_cancelled_batch_has_no_jobs_and_keeps_its_letters(site, batches, db, recorded):
    under_way(site)
    plan = batches.plan_cancel("b1")
    assert plan.clips == 1
    assert batches.cancel(plan) == 1
    assert db.batch("b1").cancelled_at
    assert site.client.keys("queue:transcribe*") == site.client.keys("batch:*") == []
    assert site.client.llen(FAILED) == 1
    assert recorded() == [("batch cancel", "b1", 1)]


def test_an_archive_that_no_worker_began_with_is_cancelled(site, batches, db):
    site.transfer("b1")
    plan = batches.plan_cancel("b1")
    assert plan.clips is None
    assert db.batch("b1") is None, "a plan notes nothing"
    assert batches.cancel(plan) == 1
    assert db.batch("b1").cancelled_at
    assert site.client.llen(UNPACK) == 0


def test_a_batch_that_completes_after_the_plan_is_not_cancelled(site, batches, db, query):
    site.transfer("b1")
    site.unpack("b1", ["a.mp3"])
    plan = batches.plan_cancel("b1")
    site.transcribe("a.mp3")
    with pytest.raises(RefusedError, match="batch b1 is complete; there is nothing to cancel"):
        batches.cancel(plan)
    with pytest.raises(RefusedError, match="batch b1 is complete"):
        batches.plan_cancel("b1")
    assert db.batch("b1").cancelled_at is None
    [(ended_by,)] = query("SELECT details->>'ended_by' FROM operator_actions WHERE affected = 0")
    assert ended_by == "RefusedError: batch b1 is complete; there is nothing to cancel"


def test_a_retry_says_what_came_back_what_was_gone_and_what_stays(site, letters, recorded):
    under_way(site)
    archive_letter(site, "b2")
    archive_letter(site, "b3")
    plan = letters.plan_retry(ALL)
    site.client.rpop(FAILED)  # somebody else was faster
    progress: list[int] = []
    retried = letters.retry(plan, lambda: progress.append(1))
    assert (retried.brought_back, retried.already_gone, len(retried.stuck), len(progress)) == (1, 1, 1, 3)
    [stuck] = retried.stuck
    assert (stuck.letter.batch_id, stuck.letter.clip) == ("b1", "b.mp3")
    assert stuck.reason == "host host-1, which held the clip's file, is gone"
    assert stuck.advice == "its archive has it: audio-pipeline batch requeue b1"
    assert site.client.llen(UNPACK) == 1
    assert site.client.lrange(FAILED, 0, -1) == [stuck.letter.raw]
    assert recorded() == [("failed retry", "all", 1)]


def test_a_dropped_archive_is_cancelled_and_a_clip_only_forgotten(site, letters, db, recorded):
    under_way(site)
    archive_letter(site, "b2")
    site.client.rpush(FAILED, FOREIGN)
    plan = letters.plan_drop(ALL)
    assert [job.batch_id for job in plan.archives] == [job.batch_id for job in plan.cancelled] == ["b2"]
    assert (len(plan.letters), plan.foreign, plan.foreign_left) == (2, (), 1)
    assert letters.drop(plan) == 2
    assert db.batch("b2").cancelled_at
    assert db.batch("b1").cancelled_at is None
    assert site.client.lrange(FAILED, 0, -1) == [FOREIGN]
    assert recorded() == [("failed drop", "all", 2)]


def test_an_archive_whose_job_waits_again_is_not_cancelled_by_a_drop(site, letters, db):
    archive_letter(site, "b2")
    site.transfer("b2")
    plan = letters.plan_drop(ALL)
    assert plan.cancelled == ()
    letters.drop(plan)
    assert db.batch("b2").cancelled_at is None


def test_foreign_entries_are_dropped_alone(site, letters, recorded):
    under_way(site)
    site.client.rpush(FAILED, FOREIGN)
    plan = letters.plan_drop(LetterFilter(), foreign=True)
    assert (plan.letters, plan.foreign, plan.subject) == ((), (FOREIGN,), "foreign")
    assert letters.drop(plan) == 1
    assert site.client.llen(FAILED) == 1
    assert recorded() == [("failed drop", "foreign", 1)]


def test_an_id_that_no_letter_has_is_refused(letters):
    with pytest.raises(UnknownError, match="no dead letter has the id 0123456789; nothing was brought back"):
        letters.plan_retry(LetterFilter(ids=("0123456789",)))


def test_a_filter_that_chooses_nothing_is_not_taken_for_all(site, letters):
    under_way(site)
    for plan in (letters.plan_retry, letters.plan_drop):
        with pytest.raises(RefusedError, match="no dead letters were chosen"):
            plan(LetterFilter())


@pytest.mark.parametrize("conditions", [("", None), (None, "")])
def test_an_empty_condition_is_an_error(conditions):
    cause, batch = conditions
    with pytest.raises(ValueError, match="must not be empty"):
        LetterFilter(cause=cause, batch=batch)


def test_a_host_is_retired_when_none_of_its_workers_lives(site, db, settings, audit, recorded):
    under_way(site)
    retirement = HostRetirement(site.client, db, settings, audit)
    with pytest.raises(RefusedError, match=r"host-1 still works \(host-1:.*; stop its workers first"):
        retirement.plan("host-1")
    assert retirement.plan("host-10").batches == ()
    for key in site.client.keys("worker:*"):
        site.client.delete(key)
    plan = retirement.plan("host-1")
    assert [job.batch_id for job in plan.batches] == ["b1"]
    assert [job.batch_id for job in retirement.retire(plan)] == ["b1"]
    assert site.client.lrange(UNPACK, 0, -1) == [plan.batches[0].to_json()]
    assert recorded() == [("worker retire", "host-1", 1)]
