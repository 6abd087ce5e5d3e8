"""S3 against a real Swift node: keys as agreed, and one sentence for each way it can fail."""

from __future__ import annotations

import pytest

from config import load_settings
from errors import PermanentError, RetryableError, ServiceUnavailableError
from s3_utils import ObjectStore, remove_scratch


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
    with pytest.raises(RetryableError, match="is gone"):
        store.upload_archive(tmp_path / "none.tar", "b")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"S3_ENDPOINT": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"S3_SECRET_KEY": "wrong"}, "refuses us"),
        ({"S3_ACCESS_KEY": "nobody"}, "refuses us"),
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


def test_scratch_is_removed_once_or_twice_and_never_outside(tmp_path):
    (tmp_path / "scratch" / "b1" / "originals").mkdir(parents=True)
    for _ in range(2):
        remove_scratch(tmp_path / "scratch", "b1")
    assert not (tmp_path / "scratch" / "b1").exists()
    (tmp_path / "precious").mkdir()
    with pytest.raises(PermanentError, match="is no batch id"):
        remove_scratch(tmp_path / "scratch", "../precious")
