"""S3 against a real Swift node: keys, and one sentence for each kind of failure."""

from __future__ import annotations

import errno
import os

import pytest

from config import load_settings
from errors import (
    MissingObjectError,
    OneArchiveError,
    OperatorError,
    PermanentError,
    RetryableError,
    ServiceUnavailableError,
)
from s3_utils import ObjectStore
from tests.reliability.faulty_s3 import FaultyS3


@pytest.fixture
def store(settings):
    return ObjectStore(settings)


def test_an_archive_goes_up_and_comes_down_unchanged_under_its_agreed_key(store, tmp_path):
    source, back = tmp_path / "x.tar", tmp_path / "back.tar"
    source.write_bytes(bytes(range(256)) * 1000)
    assert store.upload_archive(source, "20250622-143052-a1b2c3") == "archives/20250622-143052-a1b2c3.tar"
    assert store.size("archives/20250622-143052-a1b2c3.tar") == 256_000
    store.download("archives/20250622-143052-a1b2c3.tar", back)
    assert back.read_bytes() == source.read_bytes()


def test_a_large_archive_goes_up_in_parts_and_comes_down_unchanged(store, tmp_path):
    source, back = tmp_path / "large.tar", tmp_path / "back.tar"
    block = bytes(range(256)) * 4096
    with source.open("wb") as file:
        for number in range(101):
            file.write(number.to_bytes(1, "big") + block[1:])
    sent: list[int] = []
    key = store.upload_archive(source, "large", sent.append)
    assert sum(sent) == source.stat().st_size
    assert len(sent) > 1
    store.download(key, back)
    assert back.read_bytes() == source.read_bytes()


def test_a_clip_goes_to_its_day(store, tmp_path):
    clip = tmp_path / "a.opus"
    clip.write_bytes(b"OggS")
    assert store.upload_opus(clip, 17, "2026-01-02") == "processed/2026-01-02/17.opus"
    assert (
        store.client.head_object(Bucket=store.bucket, Key="processed/2026-01-02/17.opus")["ContentType"] == "audio/ogg"
    )


def test_a_missing_object_is_the_jobs_fault(store, tmp_path):
    with pytest.raises(PermanentError, match="has no object archives/none"):
        store.download("archives/none.tar", tmp_path / "x")
    with pytest.raises(PermanentError, match="has no object"):
        store.size("archives/none.tar")
    assert store.stored_size("archives/none.tar") is None


def test_a_staged_file_that_is_gone_is_worth_another_try(store, tmp_path):
    with pytest.raises(RetryableError, match="does not exist"):
        store.upload_archive(tmp_path / "none.tar", "b")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"S3_ENDPOINT": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"S3_SECRET_KEY": "wrong"}, "refuses access"),
        ({"S3_ACCESS_KEY": "nobody"}, "refuses access"),
        ({"S3_BUCKET": "no-such-bucket"}, "has no bucket no-such-bucket"),
    ],
)
def test_an_unusable_service_is_one_sentence_that_names_the_setting(settings_env, wrong, sentence):
    store = ObjectStore(load_settings({**settings_env, **wrong}))
    [name] = wrong
    with pytest.raises(ServiceUnavailableError, match=sentence) as caught:
        store.check()
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def proxy(services):
    with FaultyS3(services.s3_endpoint) as between:
        yield between


@pytest.fixture
def proxied(settings_env, store, proxy):
    """A store behind the proxy, with one object `archives/a.tar`."""
    store.client.put_object(Bucket=store.bucket, Key="archives/a.tar", Body=b"x")
    return ObjectStore(load_settings({**settings_env, "S3_ENDPOINT": proxy.endpoint}))


@pytest.mark.parametrize(
    ("status", "code", "kind", "sentence"),
    [
        (403, "AccessDenied", RetryableError, "answers, but refuses access to archives/a.tar"),
        (403, "InvalidObjectState", PermanentError, "is in an archive tier .* restore it, then retry"),
        (400, "KeyTooLongError", PermanentError, "rejects requests for archives/a.tar"),
        (400, "InvalidArgument", PermanentError, "rejects requests for archives/a.tar"),
        (405, "MethodNotAllowed", PermanentError, "rejects requests for archives/a.tar"),
        (404, "NoSuchKey", MissingObjectError, "has no object archives/a.tar"),
    ],
)
def test_an_answer_about_one_key_is_that_jobs(proxied, proxy, tmp_path, status, code, kind, sentence):
    proxy.refuse("GET", "/archives/a.tar", status=status, code=code)
    with pytest.raises(kind, match=sentence):
        proxied.download("archives/a.tar", tmp_path / "x")
    proxy.refuse("HEAD", "/archives/a.tar", status=status, code=code)
    with pytest.raises(kind if status != 403 else RetryableError):
        proxied.size("archives/a.tar")


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "InvalidArgument"), (404, "NoSuchBucket")])
def test_no_job_is_blamed_while_the_bucket_does_not_answer_either(proxied, proxy, tmp_path, status, code):
    proxy.refuse("HEAD", "/", status=status, code=code)
    proxy.refuse("GET", "/archives/", status=status, code=code)
    with pytest.raises(ServiceUnavailableError):
        proxied.size("archives/a.tar")
    with pytest.raises(ServiceUnavailableError):
        proxied.stored_size("archives/a.tar")
    with pytest.raises(ServiceUnavailableError):
        proxied.download("archives/a.tar", tmp_path / "x")


@pytest.mark.parametrize("code", ["RequestTimeout", "SlowDown"])
def test_a_service_that_is_busy_is_nobodys_fault_whatever_its_status(proxied, proxy, tmp_path, code):
    proxy.refuse("GET", "/archives/a.tar", status=400, code=code)
    with pytest.raises(ServiceUnavailableError):
        proxied.download("archives/a.tar", tmp_path / "x")


def test_a_key_that_is_refused_is_not_taken_for_a_missing_one(proxied, proxy):
    proxy.refuse("HEAD", "/archives/a.tar", status=400, code="BadRequest")
    with pytest.raises(PermanentError, match="rejects requests"):
        proxied.stored_size("archives/a.tar")


def test_a_refused_write_names_right_and_quota_and_blames_no_job(proxied, proxy, tmp_path):
    clip = tmp_path / "a.opus"
    clip.write_bytes(b"OggS")
    proxy.refuse("PUT", "/processed/", status=403, code="AccessDenied")
    with pytest.raises(OneArchiveError, match="right to write, and the quota"):
        proxied.upload_opus(clip, 17, "2026-01-02")


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_no_jobs_fault(store, tmp_path, monkeypatch, full):
    clip = tmp_path / "a.opus"
    clip.write_bytes(b"OggS")
    key = store.upload_opus(clip, 18, "2026-01-02")

    def no_room(*_: object, **__: object) -> None:
        raise OSError(full, os.strerror(full))

    monkeypatch.setattr(store.client, "download_file", no_room)
    with pytest.raises(OperatorError, match=f"{key} cannot be downloaded; make room"):
        store.download(key, tmp_path / "back.opus")


def test_every_request_and_every_piece_of_a_body_counts_as_progress(settings_env, tmp_path):
    steps: list[int] = []
    store = ObjectStore(load_settings(settings_env), lambda: steps.append(1))
    source = tmp_path / "x.tar"
    source.write_bytes(bytes(3 << 20))
    store.upload(source, "failed/b/1.wav")
    sent = len(steps)
    store.download("failed/b/1.wav", tmp_path / "back")
    assert sent >= 3
    assert len(steps) - sent >= 3
    before = len(steps)
    assert list(store.keys("failed/")) == ["failed/b/1.wav"]
    assert len(steps) > before
