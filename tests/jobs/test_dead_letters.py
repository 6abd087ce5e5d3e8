"""Dead letters in Redis: which jobs come back, with which payload, and what their batches count afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis

from errors import AudioError, HostGoneError, PayloadError, PermanentError
from jobs import dead_letters
from jobs.batches import Batches, BatchStart
from jobs.dead_letters import DeadLetter, DeadLetters
from jobs.job_queue import FAILED, HOSTS_SEEN, UNPACK, Claim, ClipRef, JobQueue, WorkerName
from jobs.payloads import TranscribeJob, UnpackJob, parse_transcribe_job

SCRATCH = Path("/data/scratch")
TRANSCRIBE = "queue:transcribe"
OWN = "queue:transcribe:host-1"
ARCHIVE = UnpackJob(batch_id="b1", s3_key="archives/b1.tar")


@pytest.fixture
def queue(redis_db: redis.Redis) -> JobQueue:
    worker = WorkerName("host-1", 42, "aa")
    redis_db.set(worker.heartbeat_key, "{}")
    redis_db.zadd(HOSTS_SEEN, {worker.host: 1})
    return JobQueue(redis_db, worker)


@pytest.fixture
def letters(redis_db: redis.Redis) -> DeadLetters:
    return DeadLetters(redis_db, SCRATCH)


def take(queue: JobQueue, *queues: str) -> Claim:
    claim = queue.claim(queues or (OWN, TRANSCRIBE))
    assert claim is not None
    return claim


def begin(queue: JobQueue, clips: Sequence[str], *, broken: Sequence[str] = (), done: int = 0, run: str = "1") -> None:
    """Start the batch b1 as the unpack worker does."""
    queue.client.rpush(UNPACK, ARCHIVE.to_json())
    claim = take(queue, UNPACK)
    jobs = [
        TranscribeJob(opus_path=SCRATCH / "b1" / f"{number:05}.opus", batch_id="b1", original_filename=name)
        for number, name in enumerate(clips)
    ]
    entries = {
        name: dead_letters.write(
            claim, AudioError(f"{name} holds no audio"), worker=queue.worker, clip=ClipRef("b1", name),
            parked=f"failed/b1/9{number}.mp3",
        )
        for number, name in enumerate(broken)
    }  # fmt: skip
    assert Batches(queue.client).start(queue, claim, BatchStart(ARCHIVE, jobs, done, entries, run), OWN) == "ok"


def clip_of(claim: Claim) -> ClipRef:
    job = parse_transcribe_job(claim.payload, SCRATCH)
    return ClipRef(job.batch_id, job.original_filename)


def give_up(queue: JobQueue, claim: Claim, *, parked: str | None = "failed/b1/00000.opus") -> str:
    """Give up a clip as the GPU worker does -> the answer of the acknowledgement."""
    clip = clip_of(claim)
    entry = dead_letters.write(claim, PermanentError("no use"), worker=queue.worker, clip=clip, parked=parked)
    return queue.settle(claim, clip=clip, dead_letter=entry)


def do(queue: JobQueue, name: str) -> str:
    """Finish the next clip, which must be `name` -> the answer of the acknowledgement."""
    claim = take(queue)
    assert clip_of(claim).clip == name
    return queue.settle(claim, clip=clip_of(claim))


def the_letter(letters: DeadLetters) -> DeadLetter:
    [raw] = letters
    return DeadLetter.parse(raw, SCRATCH)


def counts(client: redis.Redis) -> tuple[int, int, int, set[bytes | str]]:
    """-> (total, processed, failed, pending) of the batch b1."""
    total, processed, failed = (int(client.get(f"batch:b1:{what}") or 0) for what in ("total", "processed", "failed"))
    return total, processed, failed, client.smembers("batch:b1:pending")


def test_a_retried_clip_goes_to_the_list_of_all_hosts_and_names_its_parked_file(redis_db, queue, letters):
    begin(queue, ["a.mp3"])
    claim = take(queue)
    give_up(queue, claim)
    assert letters.retry(the_letter(letters))
    assert redis_db.llen(OWN) == 0, "its host may be gone"
    job = parse_transcribe_job(redis_db.lindex(TRANSCRIBE, 0), SCRATCH)
    asked = parse_transcribe_job(claim.payload, SCRATCH)
    assert (job.batch_id, job.original_filename, job.opus_path) == ("b1", "a.mp3", asked.opus_path)
    assert job.opus_s3_key == "failed/b1/00000.opus"


def test_a_broken_clip_of_an_archive_comes_back_as_a_job_for_its_parked_upload(redis_db, queue, letters):
    begin(queue, ["a.mp3"], broken=["deep/b ü.mp3"])
    assert letters.retry(the_letter(letters))
    assert redis_db.llen(UNPACK) == 0, "the archive itself is not unpacked again"
    job = parse_transcribe_job(redis_db.lindex(TRANSCRIBE, 0), SCRATCH)
    assert (job.batch_id, job.original_filename, job.opus_s3_key) == ("b1", "deep/b ü.mp3", "failed/b1/90.mp3")


def test_a_clip_that_could_not_be_parked_comes_back_to_its_own_queue_as_it_was(redis_db, queue, letters):
    begin(queue, ["a.mp3"])
    claim = take(queue)
    give_up(queue, claim, parked=None)
    assert letters.retry(the_letter(letters))
    assert redis_db.lrange(OWN, 0, -1) == [claim.payload]


@pytest.mark.parametrize(
    "payload", [ARCHIVE.to_json(), b'{"batch_id": "b1",  "s3_key":"k", "post": 1234567890123456789}']
)
def test_a_whole_archive_comes_back_byte_for_byte_with_all_its_attempts(redis_db, queue, letters, payload):
    redis_db.rpush(UNPACK, payload)
    claim = take(queue, UNPACK)
    queue.retry_later(claim, 0, failed=True)
    queue.promote_due()
    claim = take(queue, UNPACK)
    assert claim.failures == 1
    queue.settle(claim, dead_letter=dead_letters.write(claim, PermanentError("not there"), worker=queue.worker))
    assert letters.retry(the_letter(letters))
    again = take(queue, UNPACK)
    assert (again.payload, again.failures, again.interruptions) == (payload, 0, 0)


@pytest.mark.parametrize("payload", [b"\xff\x00{", b"", b"\n\n", b"hello", "né".encode("latin-1")])
@pytest.mark.parametrize("name", [UNPACK, TRANSCRIBE, OWN])
def test_a_payload_that_nobody_can_read_comes_back_byte_for_byte(redis_db, queue, letters, payload, name):
    redis_db.rpush(name, payload)
    claim = take(queue, name)
    queue.settle(claim, dead_letter=dead_letters.write(claim, PayloadError("what is it?"), worker=queue.worker))
    letter = the_letter(letters)
    assert (letter.queue, letter.payload, letter.clip, letter.error) == (name, payload, None, "what is it?")
    assert letters.retry(letter)
    assert redis_db.lrange(name, 0, -1) == [payload]


def test_a_batch_under_way_waits_for_a_retried_clip_and_completes_once(redis_db, queue, letters):
    begin(queue, ["a.mp3", "b.mp3", "c.mp3"], broken=["d.mp3"], done=2)
    assert letters.retry(the_letter(letters)), "the broken clip"
    assert counts(redis_db) == (6, 2, 0, {b"a.mp3", b"b.mp3", b"c.mp3", b"d.mp3"})
    assert give_up(queue, take(queue)) == "ok"
    assert counts(redis_db) == (6, 2, 1, {b"b.mp3", b"c.mp3", b"d.mp3"})
    assert letters.retry(the_letter(letters)), "the clip that failed at the GPU"
    assert counts(redis_db) == (6, 2, 0, {b"a.mp3", b"b.mp3", b"c.mp3", b"d.mp3"})
    assert [do(queue, name) for name in ("b.mp3", "c.mp3")] == ["ok", "ok"]
    assert give_up(queue, take(queue)) == "ok", "d.mp3 is no better than before"
    assert do(queue, "a.mp3") == "complete"
    assert counts(redis_db) == (6, 5, 1, set())
    assert Batches(redis_db).finishing() == ["b1"]


def test_a_batch_whose_clips_are_all_settled_is_not_opened_again(redis_db, queue, letters):
    """Its completion may be recorded at this moment; the clip's results correct the counts in Postgres later."""
    begin(queue, ["a.mp3"])
    assert give_up(queue, take(queue)) == "complete"
    assert letters.retry(the_letter(letters))
    assert counts(redis_db) == (1, 0, 1, set())
    assert do(queue, "a.mp3") == "ok"
    assert counts(redis_db) == (1, 0, 1, set())
    assert Batches(redis_db).clear("b1")
    assert redis_db.keys("batch*") == []


def test_a_letter_of_a_batch_that_is_over_makes_no_keys(redis_db, queue, letters):
    begin(queue, ["a.mp3"])
    give_up(queue, take(queue))
    Batches(redis_db).clear("b1")
    assert letters.retry(the_letter(letters))
    assert redis_db.keys("batch*") == []
    assert do(queue, "a.mp3") == "ok"
    assert redis_db.keys("batch*") == []


def test_a_letter_of_an_earlier_run_takes_no_failure_off_a_batch_that_counts_none(redis_db, queue, letters):
    """The clip failed, the batch was started again (its host was lost), and the clip succeeded in the new run."""
    begin(queue, ["a.mp3", "b.mp3"], run="1")
    give_up(queue, take(queue))
    Batches(redis_db).restart(ARCHIVE, SCRATCH)
    redis_db.delete(UNPACK, OWN)
    begin(queue, ["a.mp3", "b.mp3"], run="2")
    assert do(queue, "a.mp3") == "ok"
    assert letters.retry(the_letter(letters))
    assert counts(redis_db) == (2, 1, 0, {b"b.mp3"})
    assert do(queue, "b.mp3") == "complete"
    assert do(queue, "a.mp3") == "ok"
    assert counts(redis_db) == (2, 2, 0, set())


def test_a_letter_of_the_second_delivery_of_a_clip_that_went_well_takes_off_nothing(redis_db, queue, letters):
    begin(queue, ["a.mp3", "b.mp3"])
    redis_db.lpush(OWN, redis_db.lindex(OWN, 0))
    assert do(queue, "a.mp3") == "ok"
    assert give_up(queue, take(queue)) == "ok"
    assert letters.retry(the_letter(letters))
    assert counts(redis_db) == (2, 1, 0, {b"b.mp3"})


def test_a_job_of_a_host_that_is_gone_stays_a_letter(redis_db, queue, letters):
    begin(queue, ["a.mp3", "b.mp3"])
    give_up(queue, take(queue), parked=None)
    redis_db.zrem(HOSTS_SEEN, "host-1")
    before = {key: redis_db.dump(key) for key in redis_db.scan_iter()}
    with pytest.raises(HostGoneError, match="host host-1, which held"):
        letters.retry(the_letter(letters))
    assert {key: redis_db.dump(key) for key in redis_db.scan_iter()} == before


def test_a_second_retry_of_the_same_letter_does_nothing(redis_db, queue, letters):
    begin(queue, ["a.mp3", "b.mp3"])
    give_up(queue, take(queue))
    letter = the_letter(letters)
    assert letters.retry(letter)
    before = {key: redis_db.dump(key) for key in redis_db.scan_iter()}
    assert not letters.retry(letter)
    assert not letters.drop(letter)
    assert {key: redis_db.dump(key) for key in redis_db.scan_iter()} == before


def test_equal_letters_are_brought_back_one_at_a_time(redis_db, letters):
    letter = dead_letters.write(Claim(UNPACK, b"job", 2, 0), PermanentError("no"), worker=WorkerName("h", 1, "n"))
    redis_db.rpush(FAILED, letter, letter)
    assert letters.retry(letters.parse(letter))
    assert (redis_db.llen(FAILED), redis_db.lrange(UNPACK, 0, -1)) == (1, [b"job"])


def test_a_dropped_letter_is_gone_and_nothing_else_changes(redis_db, queue, letters):
    begin(queue, ["a.mp3", "b.mp3"])
    give_up(queue, take(queue))
    letter = the_letter(letters)
    before = counts(redis_db)
    assert letters.drop(letter)
    assert list(letters) == []
    assert not letters.drop(letter)
    assert not letters.retry(letter)
    assert counts(redis_db) == before == (2, 0, 1, {b"b.mp3"})
    assert redis_db.llen(TRANSCRIBE) == 0


def test_entries_come_oldest_first_and_those_that_are_no_dead_letters_are_marked(redis_db, letters):
    redis_db.rpush(FAILED, b"put here by hand", b"{}")
    assert list(letters) == [b"put here by hand", b"{}"]
    for raw in letters:
        with pytest.raises(
            PayloadError, match=r"queue:failed is not a dead letter .* redis-cli LRANGE queue:failed 0 -1"
        ):
            DeadLetter.parse(raw, SCRATCH)


def test_a_reason_that_quotes_a_file_name_of_any_bytes_can_be_written():
    error = PermanentError("the member 'caf\udce9.mp3' is no audio")
    raw = dead_letters.write(Claim(UNPACK, b"job", 0, 0), error, worker=WorkerName("h", 1, "n"))
    assert DeadLetter.parse(raw, SCRATCH).error == "the member 'caf\\udce9.mp3' is no audio"
    assert json.loads(raw)["permanent"] is True
