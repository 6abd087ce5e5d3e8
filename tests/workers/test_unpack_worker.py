"""unpack, as a process with real services: what a batch becomes, and the effect of a kill, a stop or bad input."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from tests.workers.conftest import dead_letters, tar, tone
from tests.workers.processes import wait_until

JOBS = "queue:transcribe"


def clip_names(client) -> list[str]:
    return [json.loads(job)["original_filename"] for job in client.lrange(JOBS, 0, -1)]


def test_an_archive_becomes_opus_files_jobs_keys_and_rows(worker, put_archive, redis_db, query, settings, store):
    batch = put_archive(
        tar(
            {"a.wav": tone(), "sub/b – ü.wav": tone(), "broken.mp3": b"not audio at all", "notes.txt": b"hello"}, "w:xz"
        )
    )
    worker("unpack")
    wait_until(lambda: redis_db.exists(f"batch:{batch}:total"), "the batch to begin")
    assert redis_db.get(f"batch:{batch}:total") == b"3"
    assert redis_db.get(f"batch:{batch}:failed") == b"1"
    assert redis_db.smembers(f"batch:{batch}:pending") == {b"a.wav", "sub/b – ü.wav".encode()}
    assert sorted(clip_names(redis_db)) == ["a.wav", "sub/b – ü.wav"]
    job = json.loads(redis_db.lindex(JOBS, 0))
    assert set(job) == {"batch_id", "opus_path", "original_filename"}
    on_disk = {path.suffix for path in (settings.scratch_root / batch).iterdir() if not path.name.startswith(".")}
    assert on_disk == {".opus"}, "archive and originals are gone"
    [letter] = dead_letters(redis_db)
    assert (letter["clip"], letter["batch_id"], letter["queue"]) == ("broken.mp3", batch, "queue:unpack")
    assert store.stored_size(letter["parked_s3_key"]) == len(b"not audio at all")
    assert query("SELECT original_filename, status FROM audio_files ORDER BY 1") == [
        ("a.wav", "pending"),
        ("broken.mp3", "failed"),
        ("sub/b – ü.wav", "pending"),
    ]
    assert query("SELECT total, skipped_members->0->>'name' FROM batches") == [(3, "notes.txt")]
    assert redis_db.keys("inflight:*") == []


def test_the_same_job_twice_adds_nothing(worker, put_archive, redis_db, query):
    archive = tar({"a.wav": tone()})
    batch = put_archive(archive)
    put_archive(archive)
    process = worker("unpack")
    process.wait_for("is already under way")
    assert redis_db.llen(JOBS) == 1
    assert redis_db.get(f"batch:{batch}:total") == b"1"
    assert query("SELECT count(*) FROM audio_files") == [(1,)]


@pytest.mark.thorough
def test_a_batch_that_is_under_way_elsewhere_leaves_no_folder_here(worker, put_archive, tmp_path):
    archive = tar({"a.wav": tone()})
    put_archive(archive)
    elsewhere = worker("unpack")
    elsewhere.wait_for("batch unpacked")
    elsewhere.send(signal.SIGTERM)
    assert elsewhere.exit_code() == 0
    put_archive(archive)
    here = tmp_path / "scratch-of-another-host"
    worker("unpack", WORKER_HOST="another", SCRATCH_ROOT=str(here)).wait_for("is already under way")
    assert list(here.iterdir()) == []


@pytest.mark.thorough
def test_a_killed_worker_leaves_a_job_that_the_next_one_finishes(worker, put_archive, redis_db, settings):
    clips = {f"{number:03}.wav": tone(20) for number in range(40)}
    batch = put_archive(tar(clips))
    first = worker("unpack", CONVERT_PROCESSES="1")
    wait_until(lambda: list(settings.scratch_root.glob(f"{batch}/*.opus")), "the first converted clip")
    first.send(signal.SIGKILL)
    first.exit_code()
    assert redis_db.exists(f"batch:{batch}:total") == 0
    second = worker("unpack")
    second.wait_for("a worker died")
    second.wait_for("batch unpacked")
    assert len(clip_names(redis_db)) == len(set(clip_names(redis_db))) == 40
    assert redis_db.scard(f"batch:{batch}:pending") == 40
    assert redis_db.keys("inflight:*") == []


def test_sigterm_in_mid_work_hands_the_job_back_and_leaves_scratch_clean(worker, put_archive, redis_db, settings):
    batch = put_archive(tar({f"{number:03}.wav": tone(20) for number in range(40)}))
    process = worker("unpack", CONVERT_PROCESSES="1")
    wait_until(lambda: list(settings.scratch_root.glob(f"{batch}/*.opus")), "the first converted clip")
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0
    assert redis_db.llen("queue:unpack") == 1
    assert redis_db.hlen("queue:attempts") == redis_db.hlen("queue:interruptions") == 0
    assert list(settings.scratch_root.iterdir()) == []
    assert redis_db.keys("inflight:*") == redis_db.keys("worker:*") == []


def test_what_cannot_be_read_becomes_a_dead_letter_and_the_worker_goes_on(worker, put_archive, redis_db, settings):
    redis_db.rpush("queue:unpack", b"\xff\x00 no json", b'{"batch_id": "gone-1", "s3_key": "archives/gone-1.tar"}')
    put_archive(b"this is no archive" * 100, "no-archive")
    put_archive(tar({"readme.txt": b"hello"}), "no-audio")
    put_archive(tar({"a.wav": tone(5)}, "w:xz")[:-400], "cut-off")
    put_archive(tar({"../../evil.wav": tone(), "/etc/evil.wav": tone(), "good.wav": tone()}), "evil")
    process = worker("unpack")
    wait_until(lambda: redis_db.llen("queue:failed") == 5 and redis_db.llen(JOBS) == 2, "five dead letters, two jobs")
    assert sorted(clip_names(redis_db)) == ["etc/evil.wav", "good.wav"], "inside the archive a leading / means nothing"
    said = {
        json.loads(letter["payload"])["batch_id"]: letter for letter in dead_letters(redis_db) if "payload" in letter
    }
    assert "S3 has no object archives/gone-1.tar" in said["gone-1"]["error"]
    assert "is not a readable archive" in said["no-archive"]["error"]
    assert "no audio file" in said["no-audio"]["error"]
    assert "damaged" in said["cut-off"]["error"]
    [unreadable] = [letter for letter in dead_letters(redis_db) if "payload_base64" in letter]
    assert "not UTF-8" in unreadable["error"]
    assert [path.name for path in settings.scratch_root.iterdir()] == ["evil"]
    assert not Path("/etc/evil.wav").exists()
    assert not (settings.scratch_root.parent / "evil.wav").exists()
    assert process.running


def test_a_service_that_is_down_costs_no_attempt_and_work_goes_on_when_it_is_back(
    worker, put_archive, redis_db, services
):
    put_archive(tar({"a.wav": tone()}))
    process = worker("unpack", S3_BUCKET="not-there-yet")
    process.wait_for("has no bucket not-there-yet")
    assert redis_db.llen("queue:unpack") == 1
    services.make_bucket("not-there-yet")
    process.wait_for("ready")
    # The archive lies in the other bucket: now it is the job's fault, and only now.
    wait_until(lambda: redis_db.llen("queue:failed") == 1, "the dead letter")
    assert dead_letters(redis_db)[0]["attempts"] == 1
    services.drop_bucket("not-there-yet")


def test_a_job_that_killed_three_workers_is_quarantined(worker, put_archive, redis_db):
    put_archive(tar({"a.wav": tone()}))
    digest = hashlib.sha1(redis_db.lindex("queue:unpack", 0), usedforsecurity=False).hexdigest()
    redis_db.hset("queue:interruptions", f"queue:unpack:{digest}", 3)
    worker("unpack")
    wait_until(lambda: redis_db.llen("queue:failed") == 1, "the dead letter")
    assert "3 workers died" in dead_letters(redis_db)[0]["error"]
    assert redis_db.hlen("queue:interruptions") == 0


def test_clips_that_have_results_are_not_unpacked_again(worker, put_archive, redis_db, query):
    query("INSERT INTO batches (batch_id) VALUES ('test-001') RETURNING 1")
    query(
        "WITH silent AS (INSERT INTO audio_files (batch_id, original_filename, status, s3_opus_path) "
        "VALUES ('test-001', 'a.wav', 'no_speech', 'x') RETURNING audio_id) INSERT INTO transcripts "
        "(audio_id, model, text, speech_s, no_speech) SELECT audio_id, 'base', '', 0, true FROM silent RETURNING 1"
    )
    batch = put_archive(tar({"a.wav": tone(), "b.wav": tone()}))
    worker("unpack").wait_for("batch unpacked")
    assert clip_names(redis_db) == ["b.wav"]
    assert (redis_db.get(f"batch:{batch}:total"), redis_db.get(f"batch:{batch}:processed")) == (b"2", b"1")


def test_scratch_of_a_batch_that_was_finished_elsewhere_is_swept_by_its_host(worker, query, settings):
    query("INSERT INTO batches (batch_id, unpacked_at, completed_at) VALUES ('done-1', now(), now()) RETURNING 1")
    query("INSERT INTO batches (batch_id, unpacked_at) VALUES ('open-1', now()) RETURNING 1")
    for name in ("done-1", "open-1", "by-hand"):
        (settings.scratch_root / name).mkdir()
        (settings.scratch_root / name / "a.opus").write_bytes(b"x")
        if name != "by-hand":
            (settings.scratch_root / name / ".unpacked-by-pipeline").touch()
    cut_off = settings.scratch_root / ".removed-done-2"  # a worker was killed while it removed this one
    cut_off.mkdir()
    (cut_off / "b.opus").write_bytes(b"x")
    worker("unpack").wait_for("scratch removed: the batch is over")
    assert sorted(path.name for path in settings.scratch_root.iterdir()) == ["by-hand", "open-1"]


def test_a_missing_setting_stops_the_worker_with_one_sentence(worker):
    process = worker("unpack", S3_SECRET_KEY="")
    assert process.exit_code() == 78
    [line] = process.text.strip().splitlines()
    assert "S3_SECRET_KEY is not set" in line


def metadata_parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def metadata_of(query, batch):
    return dict(query("SELECT original_filename, platform_metadata FROM audio_files WHERE batch_id = %s", batch))


VIDEO = "7301234567890123456"


def test_no_clip_gets_the_metadata_of_another_person(worker, put_archive, query):
    rows = metadata_parquet(filename=["alice/1.wav"], author=["alice"])
    batch = put_archive(tar({"metadata.parquet": rows, "alice/1.wav": tone(), "bob/1.wav": tone()}))
    process = worker("unpack")
    process.wait_for("batch unpacked")
    found = metadata_of(query, batch)
    assert found == {"alice/1.wav": {"filename": "alice/1.wav", "author": "alice"}, "bob/1.wav": None}
    assert query("SELECT metadata_matched, total, metadata_problems FROM batches") == [(1, 2, [])]
    assert 'metadata="matched 1 of 2"' in process.text
    [warning] = [line for line in process.text.splitlines() if "metadata read" in line]
    assert "WARNING" in warning
    assert 'matched="1 of 2"' in warning


@pytest.mark.thorough
def test_each_directory_has_its_own_metadata_and_what_is_broken_is_named(worker, put_archive, query):
    batch = put_archive(
        tar(
            {
                "alice/metadata.parquet": metadata_parquet(filename=["1.wav"], author=["alice"]),
                "alice/1.wav": tone(),
                "bob/metadata.csv": "filename;author\r\n1.wav;böb\r\nx;y;z\r\n".encode("latin-1"),
                "bob/1.wav": tone(),
                "carol/metadata.parquet": b"PAR1 broken",
                "carol/1.wav": tone(),
            }
        )
    )
    process = worker("unpack")
    process.wait_for("batch unpacked")
    found = metadata_of(query, batch)
    assert {clip: row and row["author"] for clip, row in found.items()} == {
        "alice/1.wav": "alice",
        "bob/1.wav": "böb",
        "carol/1.wav": None,
    }
    [(matched, problems)] = query("SELECT metadata_matched, metadata_problems FROM batches")
    assert matched == 2
    said = {problem["of"]: problem["reason"] for problem in problems}
    assert said["bob/metadata.csv"] == "1 of its rows cannot be read; the first is line 3"
    assert said["carol/metadata.parquet"].startswith("the file cannot be read: ")
    assert "of=carol/metadata.parquet" in process.text


@pytest.mark.thorough
def test_ids_that_became_floats_find_the_names_that_downloaders_write(worker, put_archive, query):
    other = "7409876543210987654"
    rows = metadata_parquet(video_id=[float(VIDEO), float(other), None], likes=[1, 2, 3])
    names = [f"@user_video_{VIDEO}.wav", f"A title [{other}].wav"]
    batch = put_archive(tar({"metadata.parquet": rows, **dict.fromkeys(names, tone())}))
    worker("unpack").wait_for("batch unpacked")
    found = metadata_of(query, batch)
    assert [found[name]["likes"] for name in names] == [1, 2]
    assert query("SELECT metadata_matched FROM batches") == [(2,)]


def test_metadata_that_the_database_would_refuse_are_stored_without_what_it_refuses(worker, put_archive, query):
    lines = [
        rb'{"id": "7301", "text": "a\u0000b\ud800", "n": [NaN, 1e999, 18446744073709551616], "deep": '
        + b"[" * 70 + b"]" * 70 + b"}",
        b"broken line",
        rb'{"id": "7302", "k\u0000": {"\udfff": "\ud83c\udfb5"}}',
    ]  # fmt: skip
    batch = put_archive(tar({"metadata.jsonl": b"\n".join(lines), "7301.wav": tone(), "7302.wav": tone()}))
    worker("unpack").wait_for("batch unpacked")
    assert metadata_of(query, batch) == {
        "7301.wav": {"id": "7301", "text": "ab\ufffd", "n": [None, None, 2**64], "deep": None},
        "7302.wav": {"id": "7302", "k": {"\ufffd": "🎵"}},
    }
    assert query("SELECT metadata_problems->0->>'reason' FROM batches") == [
        ("1 of its rows cannot be read; the first is line 2",)
    ]


@pytest.mark.thorough
def test_text_that_is_no_utf8_at_any_depth_costs_nothing_else(worker, put_archive, query):
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa"))
    nested = pa.ListArray.from_arrays([0, 1], pa.StructArray.from_arrays([bad], ["tag"]))
    rows = metadata_parquet(filename=pa.array([b"1.wav"]), tags=nested)
    batch = put_archive(tar({"metadata.parquet": rows, "1.wav": tone()}))
    worker("unpack").wait_for("batch unpacked")
    assert metadata_of(query, batch) == {"1.wav": {"filename": "1.wav", "tags": [{"tag": "\ufffda"}]}}


@pytest.mark.thorough
def test_bytes_behind_whole_archives_are_a_note_whatever_the_compression(worker, put_archive, query, redis_db):
    whole = tar({".ohh/1.wav": tone(), "._1.wav": b"junk"})
    packed = {"gz": gzip.compress(whole), "xz": lzma.compress(whole), "zst": zstandard.compress(whole), "tar": whole}
    for name, data in packed.items():
        put_archive(data + b"\r\n", f"tail-{name}")
    worker("unpack")
    wait_until(lambda: redis_db.llen(JOBS) == 4, "the clip of each archive")
    found = query("SELECT total, skipped_members FROM batches")
    assert found == [
        (
            1,
            [
                {"name": "._1.wav", "reason": "it is a file that macOS adds"},
                {
                    "name": "(after the end)",
                    "reason": "2 bytes of data follow the archive's end marker; they are not read",
                },
            ],
        )
    ] * len(packed)
    assert redis_db.llen("queue:failed") == 0


@pytest.mark.thorough
def test_archives_behind_one_another_give_all_their_clips(worker, put_archive, query):
    put_archive(gzip.compress(tar({"a.wav": tone()})) + gzip.compress(tar({"b.wav": tone()})))
    worker("unpack").wait_for("batch unpacked")
    assert query("SELECT original_filename FROM audio_files ORDER BY 1") == [("a.wav",), ("b.wav",)]


@pytest.mark.thorough
def test_streams_that_hold_nothing_are_a_dead_letter_by_name(worker, put_archive, redis_db):
    put_archive(lzma.compress(b"") * 200_000)
    worker("unpack")
    wait_until(lambda: redis_db.llen("queue:failed") == 1, "the dead letter")
    [letter] = dead_letters(redis_db)
    assert letter["error_class"] == "ArchiveError"
    assert "bytes of xz data hold only 0 bytes" in letter["error"]
