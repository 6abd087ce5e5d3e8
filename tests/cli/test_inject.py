"""`audio-pipeline inject`: payloads are checked before they are pushed, and if one is bad, none is pushed."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import jobs, kept


@pytest.fixture
def clip(settings):
    """A file on this host's scratch."""
    path = settings.scratch_root / "b1" / "a b.opus"
    path.parent.mkdir()
    path.write_bytes(b"x")
    return path


@pytest.fixture
def lines(tmp_path):
    """Write a file of payloads -> its path."""

    def write(*payloads: object) -> str:
        path = tmp_path / "payloads.jsonl"
        path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in payloads) + "\n\n")
        return str(path)

    return write


def archive(name: str, **more: str) -> dict[str, str]:
    return {"batch_id": name, "s3_key": f"archives/{name}.tar", **more}


def test_an_archive_gets_its_job(cli, put, redis_db, actions):
    put("archives/monday.tar")
    dry = cli("inject", "unpack", "archives/monday.tar", "--dry-run")
    assert dry.returncode == 0
    assert dry.stdout.splitlines() == [
        "would be pushed to queue:unpack: batch monday from archives/monday.tar",
        "1 job would be pushed to queue:unpack",
    ]
    assert redis_db.keys() == []
    assert cli("inject", "unpack", "archives/monday.tar").stdout == "1 job pushed to queue:unpack\n"
    assert cli("inject", "unpack", "archives/monday.tar", "--batch-id", "again").returncode == 0
    assert jobs(redis_db) == [archive("monday"), {"batch_id": "again", "s3_key": "archives/monday.tar"}]
    assert actions() == [("inject unpack", "queue:unpack", 1)] * 2


def test_many_archives_come_from_a_file_byte_for_byte(cli, put, lines, redis_db, actions):
    for name in ("a", "b", "c"):
        put(f"archives/{name}.tar")
    given = [json.dumps(archive(name, note="é [1]"), ensure_ascii=False) for name in ("a", "b", "c")]
    file = lines(*given)
    assert "3 jobs would be pushed" in cli("inject", "unpack", "--file", file, "--dry-run").stdout
    assert redis_db.keys() == []
    assert cli("inject", "unpack", "--file", file).stdout == "3 jobs pushed to queue:unpack\n"
    assert [payload.decode() for payload in redis_db.lrange("queue:unpack", 0, -1)] == given
    assert actions() == [("inject unpack", "queue:unpack", 3)]


def test_one_bad_archive_keeps_all_back_and_is_named_by_its_number(cli, put, lines, redis_db, actions):
    for name in ("good", "begun", "waiting"):
        put(f"archives/{name}.tar")
    redis_db.set("batch:begun:total", 3)
    redis_db.rpush("queue:unpack", json.dumps(archive("waiting")))
    before = kept(redis_db)
    for bad, why in (
        ("{[red]", "payload 2 of 3: the payload is not JSON"),
        ({"batch_id": "b"}, "payload 2 of 3: the field 's3_key' is missing"),
        (archive("none"), "payload 2 of 3: S3 has no object archives/none.tar"),
        (archive("begun"), "payload 2 of 3: batch begun is under way; see audio-pipeline batch show begun"),
        (archive("waiting"), "payload 2 of 3: batch waiting is under way"),
        (archive("good"), "payload 2 of 3: batch good is under way"),  # the line before it
        (archive("../b"), "payload 2 of 3: batch_id is '../b'"),
    ):
        done = cli("inject", "unpack", "--file", lines(archive("good"), bad, archive("last")))
        assert done.returncode == 1, bad
        assert done.stderr.startswith(f"nothing was pushed: {why}"), done.stderr
        assert (bad if isinstance(bad, str) else json.dumps(bad)) in done.stderr
    assert kept(redis_db) == before
    assert actions() == []


def test_a_clip_of_this_host_gets_its_job(cli, clip, redis_db, actions):
    dry = cli("inject", "transcribe", str(clip), "--dry-run")
    assert f"would be pushed to queue:transcribe:test-host: {clip} of batch b1" in dry.stdout
    assert redis_db.keys() == []
    assert cli("inject", "transcribe", str(clip), "--audio-id", "7").returncode == 0
    job = {"batch_id": "b1", "opus_path": str(clip), "original_filename": "a b.opus"}
    assert jobs(redis_db, "queue:transcribe:test-host") == [{**job, "audio_id": 7}]
    again = cli("inject", "transcribe", str(clip))
    assert again.returncode == 1
    assert "a b.opus of batch b1 has a job already" in again.stderr
    assert cli("inject", "transcribe", str(clip), "--batch-id", "b2").returncode == 0
    assert jobs(redis_db, "queue:transcribe:test-host")[1] == {**job, "batch_id": "b2"}
    assert actions() == [("inject transcribe", "queue:transcribe:test-host", 1)] * 2


def test_many_clips_come_from_a_file_and_one_bad_one_keeps_all_back(cli, clip, lines, redis_db, put):
    good = {"opus_path": str(clip)}
    parked = {"opus_path": str(clip.with_name("gone.opus")), "opus_s3_key": put("failed/b1/00001.mp3")}
    for bad, why in (
        ({"opus_path": "/etc/passwd"}, "opus_path is '/etc/passwd', but must lie under SCRATCH_ROOT"),
        ({"opus_path": f"{clip.parent}/../../x"}, "opus_path is "),
        (
            {"opus_path": str(clip.with_name("none.opus"))},
            f"{clip.with_name('none.opus')} is not on this host",
        ),
        ({"opus_path": str(clip.parent)}, f"{clip.parent} is a directory, not an audio file"),
        ({**parked, "opus_s3_key": "failed/b1/none.mp3"}, "S3 has no object failed/b1/none.mp3"),
        ({**good, "audio_id": 0}, "audio_id is 0, but must be a whole number above 0"),
        (good, "a b.opus of batch b1 has a job already"),
    ):
        done = cli("inject", "transcribe", "--file", lines(good, bad))
        assert done.returncode == 1, bad
        assert done.stderr.startswith(f"nothing was pushed: payload 2 of 2: {why}"), done.stderr
    assert redis_db.keys() == []
    assert cli("inject", "transcribe", "--file", lines(good, parked)).returncode == 0
    assert jobs(redis_db, "queue:transcribe:test-host") == [good, parked]


def test_every_archive_that_never_had_a_job_gets_one(cli, put, add, redis_db, actions):
    for name in ("20250622-a", "20250622-b", "20250623-a", "known", "waiting"):
        put(f"archives/{name}.tar")
    put("archives/notes.txt")
    put("archives/sub/x.tar")
    add("batches", batch_id="known", s3_key="archives/known.tar")
    redis_db.rpush("queue:unpack", json.dumps(archive("waiting")))
    dry = cli("inject", "s3", "--dry-run")
    assert "3 jobs would be pushed to queue:unpack" in dry.stdout
    refused = cli("inject", "s3", "--prefix", "archives/20250622-")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Push 2 unpack jobs? Nothing is changed")
    assert redis_db.llen("queue:unpack") == 1
    assert cli("inject", "s3", "--prefix", "archives/20250622-", answer="y").returncode == 0
    assert jobs(redis_db)[1:] == [archive("20250622-a"), archive("20250622-b")]
    assert cli("inject", "s3", "--yes").stdout == "1 job pushed to queue:unpack\n"
    assert cli("inject", "s3", "--yes").stdout == "0 jobs pushed to queue:unpack\n"
    assert actions() == [("inject s3", "queue:unpack", 2), ("inject s3", "queue:unpack", 1)]


def test_an_argument_or_a_file_must_be_given_and_not_both(cli, lines, clip, redis_db):
    for words in (
        ["unpack"], ["unpack", "archives/a.tar", "--file", lines()], ["unpack", "--file", "/none"], ["transcribe"],
        ["transcribe", str(clip), "--file", lines()], ["transcribe", str(clip), "--audio-id", "0"],
    ):  # fmt: skip
        assert cli("inject", *words).returncode == 2, words
    assert redis_db.keys() == []
