"""Hostile payloads in both queues of the real workers: each becomes a dead letter with its bytes, and work goes on."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.dead_letters import DeadLetter
from jobs.job_queue import UNPACK
from local.services import Services
from tests.reliability.siege import FORGED, GOOD, STUB_GPU, UNPACKER, Siege, besieged, heard

TRANSCRIBE = "queue:transcribe"
DEEP = 100_000  # levels; a thousand are too many for any reader
ANY_JSON: tuple[Any, ...] = (7, None, True, 1.5, ["a"], [[]], {"a": 1})  # but no string
Cases = dict[bytes, str]  # payload -> what its dead letter must say


def no_json() -> Cases:
    """Payloads that are a job in no queue."""
    noise = random.Random(1).randbytes(3_000)  # noqa: S311 -- any bytes will do, the same each time
    return {
        b"": "is not JSON",
        b"\0": "is not JSON",
        b"{}\0": "is not JSON",
        b"\xff\xfe{\0}\0": "is not UTF-8",
        b'{"batch_id": "\xed\xa0\x80"}': "is not UTF-8",
        noise: "is not UTF-8",
        b"[" * DEEP: "is not JSON",
        b'{"a":' * DEEP: "is not JSON",
        b'{"batch_id":' + b"[" * DEEP + b"]" * DEEP + b"}": "is not JSON",
        b'"' + b"x" * 2_000_000 + b'"': "2000002 bytes long",
        b'{"batch_id": ' + b"9" * 5_000 + b"}": "is not JSON",
        b'{"batch_id": NaN}': "is not JSON",
        b"{'batch_id': 'x'}": "is not JSON",
        b"null": "is a JSON null",
        b"[]": "is a JSON array",
        b"7": "is a JSON number",
        b"true": "is a JSON boolean",
        b'"text"': "is a JSON string",
        b"{}": "is missing; the payload has no fields",
        json.dumps({f"field {number}": 1 for number in range(30_000)}).encode(): "is missing",
        f"x\n{FORGED}\r\x85\u2028\x1b[2J\x9b31m\u202e".encode(): "is not JSON",
        f'"\n{FORGED}"'.encode(): "is not JSON",
    }


def job(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def bad_unpack_jobs() -> Cases:
    key = "archives/good.tar"
    batch_ids = ["../outside", "a/b", "..", ".", "", "a\nb", f"a\n{FORGED}", "a" * 129, "a:b", "*", "\ud800", "a\0b"]
    return {
        **{job(batch_id=name, s3_key=key): "batch_id is .* must be letters, digits" for name in batch_ids},
        **{job(batch_id=value, s3_key=key): "batch_id is a JSON" for value in ANY_JSON},
        **{job(batch_id="wrong-key", s3_key=value): "s3_key is a JSON" for value in ANY_JSON},
        job(batch_id="no-key"): "'s3_key' is missing",
        job(batch_id="blank-key", s3_key=" \t"): "s3_key is empty",
        job(batch_id="long-key", s3_key="k" * 1025): "1025 characters long",
        job(batch_id="nul-key", s3_key="a\0b"): "no database stores",
        job(batch_id="half-key", s3_key="\ud800"): "no database stores",
        job(batch_id="climbing-key", s3_key="../../../../etc/passwd"): "S3 has no object",
        job(batch_id="forging-key", s3_key=f"a\n{FORGED}\x9b31m"): "S3 has no object",
        job(batch_id="wide-key", s3_key="\u4e00" * 1024): "not the key of a file",
        job(batch_id="folder-key", s3_key="archives/.."): "not the key of a file",
        job(batch_id="wrong-name", s3_key=key, original_filename=["a"]): "original_filename is a JSON array",
        # Times that a zone moves out of the calendar; an unfinished batch keeps them, and the next start reads them.
        job(batch_id="before-time", s3_key="archives/gone", transferred_at="0001-01-01T00:00:00+14:00"): "no object",
        job(batch_id="after-time", s3_key="archives/gone", transferred_at="9999-12-31T23:59:59-14:00"): "no object",
    }


def bad_transcribe_jobs(siege: Siege) -> Cases:
    scratch = siege.scratch
    inside = str(scratch / "by-hand" / "00001.opus")
    outside = "must lie under SCRATCH_ROOT"
    noise = random.Random(2)  # noqa: S311 -- a name that does not compress
    wide = "".join(chr(noise.randrange(0x4E00, 0x9F00)) for _ in range(1000))
    audio_ids: list[Any] = ["1", -1, 0, True, 1.5, 2**70, [[]], {}]
    batch_ids: list[Any] = ["../x", "a/b", "..", "", f"a\n{FORGED}", 7, [], {}]
    return {
        job(opus_path="/etc/passwd"): outside,
        job(opus_path="/dev/zero"): outside,
        job(opus_path="/"): outside,
        job(opus_path=str(siege.outside / "victim.wav")): outside,
        job(opus_path=f"{scratch}/../outside/victim.wav"): outside,
        job(opus_path=f"{scratch}/by-hand/way/victim.wav"): outside,  # through a link to another directory
        job(opus_path=f"{scratch}/by-hand/out.opus"): outside,  # itself a link
        job(opus_path=f"{scratch}/by-hand/loop.opus"): "must lie under SCRATCH_ROOT|is not on this host",
        job(opus_path="by-hand/00001.opus"): outside,
        job(opus_path=str(scratch)): "is a directory, not an audio file",
        job(opus_path=f"{scratch}/by-hand"): "is a directory, not an audio file",
        job(opus_path=f"{scratch}/by-hand/pipe.opus"): "is a FIFO, not an audio file",
        job(opus_path=f"{scratch}/by-hand/{'n' * 256}.opus"): "longer than any file's path",
        job(opus_path=f"{scratch}/{'d/' * 400}a.opus"): "is not on this host",
        job(opus_path=f"{scratch}/{wide[:300]}.opus"): "longer than any file's path",
        job(opus_path=f"{scratch}/b c/a.opus"): "batch_id is",
        job(opus_path=f"{scratch}/a\n{FORGED}.opus"): "is not on this host",
        job(opus_path=f"{scratch}/a\0b.opus"): "no database stores",
        **{job(opus_path=value): "opus_path is a JSON" for value in ANY_JSON},
        **{job(opus_path=inside, audio_id=value): "audio_id is" for value in audio_ids},
        **{job(opus_path=inside, batch_id=value): "batch_id is" for value in batch_ids},
        job(opus_path=inside, original_filename=wide): "has 3000 bytes, but at most 1000",
        job(opus_path=inside, original_filename=7): "original_filename is a JSON number",
        job(opus_path=inside, original_filename="\udfff"): "no database stores",
        job(opus_path=f"{scratch}/gone/a.opus", opus_s3_key="../../etc/passwd"): "S3 has no object",
        job(opus_path=f"{scratch}/gone/b.opus", opus_s3_key="archives/.."): "not the key of a file",
        job(opus_path=f"{scratch}/gone/c.opus", opus_s3_key="/"): "not the key of a file",
        job(opus_path=f"{scratch}/gone/d.opus", opus_s3_key="k" * 300): "not the key of a file",
        job(opus_path=inside, original_filename="no audio.opus"): "has none of the accepted audio formats",
    }


@pytest.fixture
def siege(tmp_path_factory: pytest.TempPathFactory, services: Services) -> Iterator[Siege]:
    with besieged(tmp_path_factory.mktemp("siege"), services) as siege:
        by_hand = siege.scratch / "by-hand"
        (by_hand / "way").symlink_to(siege.outside)
        (by_hand / "out.opus").symlink_to(siege.outside / "victim.wav")
        (by_hand / "loop.opus").symlink_to(by_hand / "loop.opus")
        os.mkfifo(by_hand / "pipe.opus")
        siege.remember()
        yield siege


def assert_letters(letters: list[DeadLetter], queue: str, cases: Cases) -> None:
    found = {letter.payload: letter.error for letter in letters if letter.queue == queue}
    assert found.keys() == cases.keys()
    unexpected = {
        payload[:200]: (found[payload], why) for payload, why in cases.items() if not re.search(why, found[payload])
    }
    assert unexpected == {}
    assert all(len(error) < 2_500 for error in found.values()), "a sentence, and one for people"


@pytest.mark.thorough
def test_no_payload_stops_a_worker_holds_it_or_goes_without_a_letter(siege):
    unpack, transcribe = {**no_json(), **bad_unpack_jobs()}, {**no_json(), **bad_transcribe_jobs(siege)}
    siege.store.client.put_object(Bucket=siege.store.bucket, Key="archives/..", Body=b"no audio")
    # Before the workers start: what stands in the queues is read by reconciliation, too.
    siege.redis.rpush(UNPACK, *unpack)
    siege.redis.rpush(TRANSCRIBE, *transcribe)
    siege.start(UNPACKER)
    siege.start(STUB_GPU)
    good = siege.put_good("good")
    siege.wait_complete(good)
    siege.wait_letters(len(unpack) + len(transcribe))
    letters = siege.letters()
    assert_letters(letters, UNPACK, unpack)
    assert_letters(letters, TRANSCRIBE, transcribe)
    assert siege.clips(good) == {GOOD: heard()}
    assert siege.counts(good) == (1, 1, 0)
    siege.assert_unharmed()
    siege.stop()

    # All those letters, and the batches that they left unfinished, are no hindrance to workers that start later,
    # not even to one that takes Redis for empty and asks Postgres and S3 what should be under way.
    siege.redis.delete("lease:reconcile", "pipeline:memory")
    siege.start(UNPACKER)
    siege.start(STUB_GPU)
    again = siege.put_good("again")
    siege.wait_complete(again)
    assert siege.clips(again) == {GOOD: heard()}
    siege.wait_letters(len(unpack) + len(transcribe))
    siege.assert_unharmed()
    siege.stop()
