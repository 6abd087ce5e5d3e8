"""transfer, as a process against a real ssh host and S3: each archive arrives whole and is enqueued once."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from archives.sources.remote_archive import batch_id
from archives.sources.ssh import ArchiveHost
from tests.archives.sftp_host import SftpHost
from tests.reliability.faulty_s3 import FaultyS3
from tests.workers.conftest import tar, tone
from tests.workers.processes import wait_until

ARCHIVE = tar({"a.wav": tone(2), "b.wav": tone(3)})


def jobs(client) -> list[dict[str, str]]:
    return [json.loads(job) for job in client.lrange("queue:unpack", 0, -1)]


def staged(settings) -> list[str]:
    return sorted(path.name for path in settings.transfer_staging.iterdir())


def place(directory: Path, name: str = "2025-06-22_14-30.tar.xz", content: bytes = ARCHIVE) -> Path:
    """Put a complete file in place by a rename, as at the end of an upload."""
    path = directory / name
    path.with_suffix(".part").write_bytes(content)
    path.with_suffix(".part").rename(path)
    return path


def id_of(settings, path: Path) -> str:
    """The batch id that the archive will get."""
    with ArchiveHost.from_settings(settings) as host:
        [archive] = [a for a in host.list(settings.transfer_remote_dir, settings.transfer_glob) if a.name == path.name]
    return batch_id(archive, settings.transfer_ssh_host)


@pytest.fixture(autouse=True)
def remote(ssh_host) -> Path:
    return ssh_host.directory


def test_an_archive_comes_to_s3_and_its_job_says_where_from(worker, remote, redis_db, store, settings, tmp_path):
    place(remote)
    worker("transfer").wait_for("archive enqueued")
    [job] = jobs(redis_db)
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", job["batch_id"])
    assert job["s3_key"] == f"archives/{job['batch_id']}.tar"
    assert job["original_filename"] == "2025-06-22_14-30.tar.xz"
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", job["transferred_at"])
    store.download(job["s3_key"], tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == ARCHIVE
    assert staged(settings) == []


def test_an_archive_is_not_taken_twice_by_a_restarted_worker(worker, remote, redis_db):
    place(remote)
    first = worker("transfer")
    first.wait_for("archive enqueued")
    first.send(signal.SIGTERM)
    assert first.exit_code() == 0
    second = worker("transfer")
    second.wait_for("ready")
    place(remote, "later.tar")
    second.wait_for("archive enqueued")
    assert [job["original_filename"] for job in jobs(redis_db)] == ["2025-06-22_14-30.tar.xz", "later.tar"]


def test_archives_that_are_long_gone_from_the_host_are_forgotten(worker, remote, redis_db):
    place(remote)
    first = worker("transfer")
    first.wait_for("archive enqueued")
    first.send(signal.SIGTERM)
    assert first.exit_code() == 0
    [entry] = redis_db.hkeys("transfer:taken")
    gone = entry.rpartition(b"/")[0] + b"/gone.tar:5:1"
    redis_db.hset("transfer:taken", gone, "b1")
    redis_db.zadd("transfer:gone", {gone: 1})
    second = worker("transfer")
    second.wait_for("are gone from the host archives=1")
    assert redis_db.hkeys("transfer:taken") == [entry]
    assert len(jobs(redis_db)) == 1


def test_a_name_of_any_bytes_is_taken_and_commands_no_terminal(worker, remote, redis_db):
    (remote / os.fsdecode(b"caf\xe9\x1b[2J\xe2\x80\xae.tar")).write_bytes(ARCHIVE)
    process = worker("transfer")
    process.wait_for("archive enqueued")
    assert [job["original_filename"] for job in jobs(redis_db)] == [r"caf\xe9\x1b[2J\u202e.tar"]
    assert not {"\x1b", "\u202e"} & set(process.text)


def test_an_archive_that_grows_is_left_until_it_has_stopped(worker, remote, redis_db, store):
    growing = remote / "growing.tar"
    process = worker("transfer", TRANSFER_SETTLE_S="1")
    process.wait_for("ready")
    with growing.open("wb") as file:
        for start in range(0, len(ARCHIVE), 20_000):
            file.write(ARCHIVE[start : start + 20_000])
            file.flush()
            os.fsync(file.fileno())
    process.wait_for("archive enqueued")
    [job] = jobs(redis_db)
    assert store.stored_size(job["s3_key"]) == len(ARCHIVE)


def test_a_crash_after_the_fetch_does_not_fetch_again(worker, remote, redis_db, settings, store):
    path = place(remote)
    name = id_of(settings, path)
    (settings.transfer_staging / f"{name}.tar").write_bytes(ARCHIVE)
    worker("transfer").wait_for("archive enqueued")
    assert [job["batch_id"] for job in jobs(redis_db)] == [name]
    assert store.stored_size(f"archives/{name}.tar") == len(ARCHIVE)
    assert staged(settings) == []


def test_a_crash_after_the_upload_does_not_upload_again(worker, remote, redis_db, settings, store):
    name = id_of(settings, place(remote))
    store.client.put_object(Bucket=store.bucket, Key=f"archives/{name}.tar", Body=ARCHIVE)
    process = worker("transfer")
    process.wait_for("archive enqueued")
    assert "archive is in S3 already" in process.text
    assert [job["batch_id"] for job in jobs(redis_db)] == [name]


@pytest.mark.thorough
def test_a_crash_after_the_push_leaves_only_a_staged_file_and_that_goes(worker, remote, redis_db, settings):
    path = place(remote)
    first = worker("transfer")
    first.wait_for("archive enqueued")
    first.send(signal.SIGKILL)
    first.exit_code()
    leftover = settings.transfer_staging / f"{id_of(settings, path)}.tar"
    leftover.write_bytes(ARCHIVE)
    worker("transfer").wait_for("ready")
    wait_until(lambda: not leftover.exists(), "the staged file to go")
    assert len(jobs(redis_db)) == 1


@pytest.mark.usefixtures("redis_db")
def test_what_was_fetched_of_an_archive_that_another_worker_took_goes(worker, remote, settings):
    path = place(remote)
    quicker = worker("transfer")
    quicker.wait_for("archive enqueued")
    running = worker("transfer")
    running.wait_for("ready")
    begun = settings.transfer_staging / f"{id_of(settings, path)}.tar.0123456789ab.part"
    of_nobody = settings.transfer_staging / "20250101-000000-000000.tar.0123456789ab.part"
    for part in (begun, of_nobody):
        part.write_bytes(ARCHIVE[:1000])
    wait_until(lambda: not begun.exists(), "the part to go")
    assert of_nobody.exists(), "an archive that nobody has taken yet is continued"


@pytest.mark.thorough
def test_killed_again_and_again_it_still_enqueues_each_archive_once(worker, remote, redis_db, store):
    for number in range(3):
        place(remote, f"{number}.tar", tar({f"{number}.wav": tone(60)}))
    for words in ("archive found", "archive enqueued", "archive found", "archive enqueued"):
        process = worker("transfer", TRANSFER_SETTLE_S="0.1")
        process.wait_for(words)
        process.send(signal.SIGKILL)
        process.exit_code()
    worker("transfer")
    wait_until(lambda: len(jobs(redis_db)) >= 3, "three jobs")
    assert sorted(job["original_filename"] for job in jobs(redis_db)) == ["0.tar", "1.tar", "2.tar"]
    assert all(store.stored_size(job["s3_key"]) == (remote / job["original_filename"]).stat().st_size
               for job in jobs(redis_db))  # fmt: skip


def test_while_s3_fails_nothing_is_enqueued_and_the_staged_file_stays(worker, remote, redis_db, settings, services):
    place(remote)
    process = worker("transfer")
    process.wait_for("ready")
    bucket = settings.s3_bucket
    services.drop_bucket(bucket)
    place(remote, "second.tar", tar({"c.wav": tone(4)}))
    wait_until(lambda: "held" in process.text, "the worker to be held")
    enqueued = len(jobs(redis_db))
    services.make_bucket(bucket)
    wait_until(lambda: len(jobs(redis_db)) == 2, "both jobs, after S3 came back")
    assert enqueued < 2
    assert staged(settings) == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"TRANSFER_SSH_PORT": "1"}, "TRANSFER_SSH_HOST"),
        ({"TRANSFER_REMOTE_DIR": "/nowhere"}, "TRANSFER_REMOTE_DIR"),
        ({"TRANSFER_KNOWN_HOSTS": "/nowhere/known_hosts"}, "ssh-keyscan"),
    ],
)
def test_an_ssh_host_that_cannot_be_used_is_waited_for_with_a_sentence(worker, wrong, sentence):
    process = worker("transfer", **wrong)
    process.wait_for("held")
    assert sentence in process.text
    assert process.running


def test_without_a_host_the_worker_stops_with_one_sentence(worker):
    process = worker("transfer", TRANSFER_SSH_HOST="")
    assert process.exit_code() == 78
    [line] = process.text.strip().splitlines()
    assert "TRANSFER_SSH_HOST is not set" in line


def says_problem(client, words: str) -> bool:
    states = [json.loads(client.get(key) or b"{}") for key in client.keys("worker:*")]
    return any(words in problem for state in states for problem in state.get("problems", []))


def test_an_archive_that_is_too_large_for_staging_is_reported_others_are_taken(worker, remote, redis_db):
    os.truncate(place(remote, "aa-huge.tar"), 1 << 42)  # sparse
    place(remote, "b.tar")
    process = worker("transfer")
    process.wait_for("archive enqueued")
    assert [job["original_filename"] for job in jobs(redis_db)] == ["b.tar"]
    wait_until(lambda: says_problem(redis_db, "archive aa-huge.tar is not taken: no space"), "the heartbeat to say so")
    wait_until(lambda: process.text.count("archive not taken") >= 2, "another try")
    assert "held" not in process.text


def test_the_trouble_of_an_archive_that_is_taken_away_or_replaced_is_over(worker, remote, redis_db):
    path = place(remote, "a.tar")
    os.truncate(path, 1 << 42)
    process = worker("transfer")
    wait_until(lambda: says_problem(redis_db, "a.tar"), "the trouble to be told")
    path.unlink()
    wait_until(lambda: not says_problem(redis_db, "a.tar"), "the trouble to be over")
    place(remote, "a.tar")
    process.wait_for("archive enqueued")


def test_an_archive_whose_name_is_no_text_is_taken(worker, remote, redis_db):
    (remote / os.fsdecode(b"caf\xe9.tar")).write_bytes(ARCHIVE)
    worker("transfer").wait_for("archive enqueued")
    assert [job["original_filename"] for job in jobs(redis_db)] == ["caf\\xe9.tar"]


@pytest.fixture
def troubled(settings_env, tmp_path) -> Iterator[SftpHost]:
    """An SFTP host, used by the settings, that reports the errors that a test wants."""
    with SftpHost(tmp_path / "host") as host:
        settings_env |= {
            "TRANSFER_SSH_HOST": "127.0.0.1",
            "TRANSFER_SSH_PORT": str(host.port),
            "TRANSFER_SSH_KEY": str(host.user_key),
            "TRANSFER_KNOWN_HOSTS": str(host.known_hosts),
            "TRANSFER_REMOTE_DIR": "/archives",
        }
        yield host


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "may not read /archives/a.tar"), (errno.EIO, "cannot read /archives/a.tar")],
    ids=["no right to read", "read error"],
)
def test_an_archive_that_cannot_be_read_is_reported_and_the_others_are_taken(troubled, worker, redis_db, number, words):
    troubled.refused["a.tar"] = number
    troubled.put("a.tar", ARCHIVE, 1_750_000_000)
    troubled.put("b.tar", ARCHIVE, 1_750_000_001)
    process = worker("transfer")
    process.wait_for("archive enqueued")
    assert [job["original_filename"] for job in jobs(redis_db)] == ["b.tar"]
    wait_until(lambda: says_problem(redis_db, words), "the heartbeat to say which, and why")
    assert "held" not in process.text

    troubled.refused.clear()
    wait_until(lambda: len(jobs(redis_db)) == 2, "the archive, when it can be read again")


@pytest.mark.thorough
def test_an_archive_that_s3_refuses_is_reported_and_the_others_are_taken(worker, remote, redis_db, settings, services):
    refused = id_of(settings, place(remote, "a.tar"))
    place(remote, "b.tar", tar({"c.wav": tone(4)}))
    with FaultyS3(services.s3_endpoint) as proxy:
        fault = proxy.refuse("PUT", f"/archives/{refused}", status=403, code="AccessDenied")
        process = worker("transfer", S3_ENDPOINT=proxy.endpoint)
        process.wait_for("archive enqueued")
        assert [job["original_filename"] for job in jobs(redis_db)] == ["b.tar"]
        wait_until(lambda: says_problem(redis_db, "refuses to write"), "the heartbeat to say so")
        assert staged(settings) == [f"{refused}.tar"]
        fault.lift()
        wait_until(lambda: len(jobs(redis_db)) == 2, "the archive, when S3 takes it")
