"""unpack, as a process against real services: what a batch becomes, and what a kill, a stop or bad input costs."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path

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
    process.wait_for("under way already")
    assert redis_db.llen(JOBS) == 1
    assert redis_db.get(f"batch:{batch}:total") == b"1"
    assert query("SELECT count(*) FROM audio_files") == [(1,)]


def test_a_batch_that_is_under_way_elsewhere_leaves_no_folder_here(worker, put_archive, tmp_path):
    archive = tar({"a.wav": tone()})
    put_archive(archive)
    elsewhere = worker("unpack")
    elsewhere.wait_for("batch unpacked")
    elsewhere.send(signal.SIGTERM)
    assert elsewhere.exit_code() == 0
    put_archive(archive)
    here = tmp_path / "scratch-of-another-host"
    worker("unpack", WORKER_HOST="another", SCRATCH_ROOT=str(here)).wait_for("under way already")
    assert list(here.iterdir()) == []


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
    assert "no archive that can be read" in said["no-archive"]["error"]
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
        "INSERT INTO audio_files (batch_id, original_filename, status) VALUES ('test-001', 'a.wav', 'done') RETURNING 1"
    )
    batch = put_archive(tar({"a.wav": tone(), "b.wav": tone()}))
    worker("unpack").wait_for("batch unpacked")
    assert clip_names(redis_db) == ["b.wav"]
    assert (redis_db.get(f"batch:{batch}:total"), redis_db.get(f"batch:{batch}:processed")) == (b"2", b"1")


def test_scratch_of_a_batch_that_was_finished_elsewhere_is_swept_and_an_operators_files_are_not(
    worker, query, settings
):
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
    worker("unpack").wait_for("scratch swept")
    assert sorted(path.name for path in settings.scratch_root.iterdir()) == ["by-hand", "open-1"]


def test_a_missing_setting_stops_the_worker_with_one_sentence(worker):
    process = worker("unpack", S3_SECRET_KEY="")
    assert process.exit_code() == 78
    [line] = process.text.strip().splitlines()
    assert "S3_SECRET_KEY is not set" in line
