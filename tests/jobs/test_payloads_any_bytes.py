"""Any bytes in a queue: they are parsed or refused with a sentence, and the dead letter keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from errors import PayloadError, PermanentError
from jobs import dead_letters
from jobs.dead_letters import DeadLetter, DeadLetters
from jobs.job_queue import FAILED, HOSTS_SEEN, UNPACK, Claim, ClipRef, JobQueue, WorkerName
from jobs.payloads import BATCH_ID, add_field, parse_transcribe_job, parse_unpack_job, read_batch_and_clip
from jobs.queue_snapshot import standing_jobs

SCRATCH = Path("/data/scratch")
TRANSCRIBE = "queue:transcribe"
GUIDES_CLIP = b'{"audio_id": 1, "opus_path": "/data/scratch/test-001/audio.opus"}'
WORKER = WorkerName("host-1", 42, "aa")
DEEP = b"[" * 100_000  # deeper than any reader goes
NESTED = b'{"batch_id": ' + b"[" * 900 + b"]" * 900 + b', "opus_path": "/data/scratch/b/a.opus"}'
HUGE_NUMBER = b'{"batch_id": ' + b"9" * 5_000 + b"}"

TEXT = st.text(st.characters(codec=None), max_size=40)  # any code point, halves of surrogate pairs included
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
KNOWN = (
    "batch_id", "s3_key", "opus_path", "audio_id", "opus_s3_key", "original_filename", "transferred_at",
    "queue", "payload", "payload_base64", "error", "error_class", "clip", "parked_s3_key",
)  # fmt: skip
PLAUSIBLE = st.sampled_from(
    ["b1", UNPACK, "queue:transcribe", "/data/scratch/b/a.opus", "failed/b1/a.mp3", "YQ==", "a.mp3"]
)
FIELDS = st.dictionaries(st.sampled_from(KNOWN) | TEXT, PLAUSIBLE | JSON, max_size=10)
# Both ways of writing text; the second leaves surrogates as bytes that are no UTF-8.
ASCII_JSON = (JSON | FIELDS).map(lambda value: json.dumps(value).encode())
OTHER_JSON = (JSON | FIELDS).map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
RAW = st.binary(max_size=300) | ASCII_JSON | OTHER_JSON

READERS: dict[str, Callable[[bytes], object]] = {
    "unpack job": parse_unpack_job,
    "transcribe job": lambda raw: parse_transcribe_job(raw, SCRATCH),
    "dead letter": lambda raw: DeadLetter.parse(raw, SCRATCH),
    "added field": lambda raw: add_field(raw, "opus_s3_key", "failed/b1/a.mp3"),
}


@pytest.mark.parametrize("name", READERS)
@given(raw=RAW)
@example(DEEP)
@example(NESTED)
@example(HUGE_NUMBER)
@example(b'{"queue": 7, "payload": "x", "error": "e", "error_class": "c"}')
@example(b'{"queue": "batch:b1:total", "payload": "x", "error": "e", "error_class": "c"}')
@example(b'{"queue": "queue:unpack", "payload": "x", "error": "e", "error_class": "c", "clip": "\\ud800"}')
def test_whatever_it_is_it_is_read_or_refused_with_a_sentence(name, raw):
    try:
        READERS[name](raw)
    except PayloadError as error:
        sentence = str(error)
        assert sentence
        assert len(sentence) < 1_000
        sentence.encode()  # and be text that a log and a database take


@given(RAW)
@example(DEEP)
@example(HUGE_NUMBER)
def test_whose_job_a_payload_is_can_be_asked_of_any_bytes(raw):
    for queue in (UNPACK, TRANSCRIBE):
        for text in read_batch_and_clip(queue, raw, SCRATCH):
            assert text is None or text.encode(), "text that Redis and Postgres can store"


BATCH_IDS = st.from_regex(BATCH_ID, fullmatch=True)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
CLIP_FIELDS = st.fixed_dictionaries(
    {"opus_path": st.sampled_from(["b1/a.opus", "b1/deeper/a.opus", "a.opus", "./b1/../b2/a.opus", "b 3/é.opus"]).map(
        lambda inside: f"{SCRATCH}/{inside}")},
    optional={
        "batch_id": st.none() | BATCH_IDS,
        "original_filename": st.none() | NAMES,
        "audio_id": st.none() | st.integers(1, 9),
        "unknown": JSON,
    },
)  # fmt: skip
ARCHIVE_FIELDS = st.fixed_dictionaries(
    {"batch_id": BATCH_IDS, "s3_key": st.just("archives/b1.tar")},
    optional={"original_filename": st.none() | NAMES, "opus_path": st.just(f"{SCRATCH}/b2/a.opus"), "unknown": JSON},
)


@given(CLIP_FIELDS.map(lambda fields: json.dumps(fields).encode()))
@example(GUIDES_CLIP)
@example(b'{"opus_path": "/data/scratch/a.opus"}')
def test_a_clips_job_belongs_to_whom_the_parser_says(raw):
    try:
        job = parse_transcribe_job(raw, SCRATCH)
    except PayloadError:
        assume(False)
    assert read_batch_and_clip(TRANSCRIBE, raw, SCRATCH) == (job.batch_id, job.original_filename)


@given(ARCHIVE_FIELDS.map(lambda fields: json.dumps(fields).encode()))
@example(b'{"batch_id": "test-001", "s3_key": "archives/test-001.tar"}')
@example(b'{"batch_id": "b1", "s3_key": "archives/b1.tar", "original_filename": "monday.tar"}')
def test_an_archives_job_belongs_to_the_batch_that_the_parser_says_and_to_no_clip(raw):
    try:
        job = parse_unpack_job(raw)
    except PayloadError:
        assume(False)
    assert read_batch_and_clip(UNPACK, raw, SCRATCH) == (job.batch_id, None)


def test_the_guides_payload_belongs_to_the_directory_of_its_clip():
    assert read_batch_and_clip(TRANSCRIBE, GUIDES_CLIP, SCRATCH) == ("test-001", "audio.opus")


@pytest.mark.parametrize(
    ("payload", "whose"),
    [
        (b'{"batch_id": "b1", "original_filename": "a.mp3", "opus_path": "/elsewhere/a.opus"}', ("b1", "a.mp3")),
        (b'{"batch_id": "b1"}', ("b1", None)),
        (b'{"opus_path": "/data/scratch/b1/a.opus", "audio_id": -1}', ("b1", "a.opus")),
        (b'{"opus_path": "/elsewhere/b1/a.opus"}', (None, None)),
        (b'{"batch_id": "a\\u0000b", "original_filename": "\\ud800"}', (None, None)),
    ],
)
def test_a_payload_that_the_parser_refuses_belongs_to_what_it_names(payload, whose):
    with pytest.raises(PayloadError):
        parse_transcribe_job(payload, SCRATCH)
    assert read_batch_and_clip(TRANSCRIBE, payload, SCRATCH) == whose


PARTS = st.sampled_from(["", "..", ".", "scratch", "scratch2", "data", "etc", "passwd", " ", "~", "\\", "b1"])


@given(st.lists(PARTS, max_size=8).map("/".join) | TEXT)
@example("/data/scratch/../../etc/passwd")
@example("//data/scratch/b1")
@example("/data/scratch/b1/../../scratch2/a.opus")
def test_no_opus_path_leads_out_of_scratch(path):
    for value in (path, f"{SCRATCH}/{path}", f"{SCRATCH}{path}"):
        try:
            job = parse_transcribe_job(json.dumps({"opus_path": value, "batch_id": "b1"}).encode(), SCRATCH)
        except PayloadError:
            continue
        assert job.opus_path == job.opus_path.resolve()
        assert job.opus_path.is_relative_to(SCRATCH)


@pytest.mark.parametrize("link", ["b1", "b1/deeper"])
@given(st.sampled_from(["a.opus", "../a.opus", "deeper/../../a.opus", "deeper/a.opus"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_symlink_leads_out_of_scratch(tmp_path, link, name):
    scratch = tmp_path / "scratch"
    if not (scratch / link).is_symlink():
        (scratch / link).parent.mkdir(parents=True, exist_ok=True)
        (scratch / link).symlink_to("/etc")
    try:
        job = parse_transcribe_job(json.dumps({"opus_path": f"{scratch}/b1/{name}"}).encode(), scratch)
    except PayloadError:
        return
    assert job.opus_path.is_relative_to(scratch)
    assert not job.opus_path.is_relative_to("/etc")


@given(FIELDS, TEXT)
def test_adding_a_field_changes_nothing_else(fields, value):
    assume(is_json(fields))
    raw = json.dumps(fields).encode()
    changed = json.loads(add_field(raw, "opus_s3_key", value))
    assert changed == {**json.loads(raw), "opus_s3_key": value}


@pytest.mark.parametrize(
    "number", ["1234567890123456789", "-9223372036854775808", "0.1000000000000000055511151231257827", "1e999", "1.50"]
)
def test_adding_a_field_keeps_every_digit_of_a_number(number):
    raw = f'{{"post_id": {number}, "opus_path": "/data/scratch/b/a.opus"}} \n'.encode()
    changed = add_field(raw, "opus_s3_key", "failed/b1/a.mp3")
    assert f'"post_id": {number},'.encode() in changed
    assert parse_transcribe_job(changed, SCRATCH).opus_s3_key == "failed/b1/a.mp3"
    assert add_field(changed, "opus_s3_key", "failed/b1/a.mp3") == changed
    assert parse_transcribe_job(add_field(changed, "opus_s3_key", "other"), SCRATCH).opus_s3_key == "other"


@given(RAW, st.sampled_from([UNPACK, "queue:transcribe", "queue:transcribe:host-1"]), TEXT)
@example(b"", UNPACK, "")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_from_queue_to_dead_letter_and_back_not_a_byte_changes(redis_db, raw, queue_name, reason):
    redis_db.flushdb()
    redis_db.set(WORKER.heartbeat_key, "{}")
    redis_db.zadd(HOSTS_SEEN, {WORKER.host: 1})
    queue = JobQueue(redis_db, WORKER)
    letters = DeadLetters(redis_db, SCRATCH)
    redis_db.rpush(queue_name, raw)
    claim = queue.claim([queue_name])
    assert claim is not None
    assert claim.payload == raw
    entry = dead_letters.write(claim, PermanentError(reason), worker=WORKER)
    queue.settle(claim, dead_letter=entry)
    assert [job.payload for job in standing_jobs(redis_db, SCRATCH)] == []
    [found] = list(letters)
    letter = letters.parse(found)
    assert letter.payload == raw
    assert letters.retry(letter)
    assert not letters.retry(letter)
    assert [(job.queue, job.payload) for job in standing_jobs(redis_db, SCRATCH)] == [(queue_name, raw)]
    assert redis_db.llen(FAILED) == 0


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40), st.sampled_from([UNPACK, "queue:transcribe"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_parked_clip_comes_back_under_its_own_name(redis_db, name, queue_name):
    redis_db.flushdb()
    fields = {"batch_id": "b1", "opus_path": "/data/scratch/b1/0.opus", "original_filename": name, "post": 10**18 + 1}
    claim = Claim(queue_name, json.dumps(fields).encode(), 2, 0)
    entry = dead_letters.write(
        claim, PermanentError("no"), worker=WORKER, clip=ClipRef("b1", name), parked="failed/b1/0.mp3"
    )
    redis_db.rpush(FAILED, entry)
    assert DeadLetters(redis_db, SCRATCH).retry(DeadLetter.parse(entry, SCRATCH))
    found = json.loads(redis_db.lindex("queue:transcribe", 0))
    assert (found["batch_id"], found["original_filename"]) == ("b1", name)
    assert found["opus_s3_key"] == "failed/b1/0.mp3"
    assert found["opus_path"] == "/data/scratch/b1/0.opus"
    if queue_name != UNPACK:
        assert found["post"] == 10**18 + 1


def is_json(value: object) -> bool:
    """JSON has no NaN and no infinity."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True
