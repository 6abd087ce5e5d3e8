"""Payloads that people write: which are accepted, and the error sentence for the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import PayloadError
from jobs.payloads import parse_transcribe_job, parse_unpack_job

SCRATCH = Path("/data/scratch")


def test_the_guides_unpack_command_is_read():
    job = parse_unpack_job(b'{"batch_id": "test-001", "s3_key": "archives/test-001.tar"}')
    assert (job.batch_id, job.s3_key, job.archive_name) == ("test-001", "archives/test-001.tar", None)


def test_the_guides_transcribe_command_is_read_and_its_batch_is_the_directory():
    job = parse_transcribe_job(b'{"audio_id": 1, "opus_path": "/data/scratch/test-001/audio.opus"}', SCRATCH)
    assert (job.audio_id, job.batch_id, job.original_filename) == (1, "test-001", "audio.opus")


def test_a_file_directly_under_scratch_belongs_to_the_manual_batch():
    assert parse_transcribe_job(b'{"opus_path": "/data/scratch/a.opus"}', SCRATCH).batch_id == "manual"


def test_unknown_fields_are_no_error():
    raw = b'{"batch_id": "b", "s3_key": "k", "priority": [1, 2], "transferred_at": "2026-01-01T00:00:00Z"}'
    assert parse_unpack_job(raw).transferred_at == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is not JSON"),
        (b"hello", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[1]", "is a JSON array"),
        (b"null", "is a JSON null"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"batch_id": NaN, "s3_key": "k"}', "is not JSON"),
        (b"{}", "'batch_id' is missing; the payload has no fields"),
        (b'{"batch_id": "b"}', "'s3_key' is missing"),
        (b'{"batch_id": 7, "s3_key": "k"}', "batch_id is a JSON number"),
        (b'{"batch_id": "../etc", "s3_key": "k"}', "letters, digits"),
        (b'{"batch_id": ".hidden", "s3_key": "k"}', "letters, digits"),
        (b'{"batch_id": "b", "s3_key": " "}', "s3_key is empty"),
        (b'{"batch_id": "b", "s3_key": "a\\u0000b"}', "NUL"),
        (b'{"batch_id": "b", "s3_key": "\\ud800"}', "surrogate"),
        (b"x" * 1_000_001, "at most"),
    ],
)
def test_a_bad_unpack_job_is_refused_with_a_sentence(raw, reason):
    with pytest.raises(PayloadError, match=reason):
        parse_unpack_job(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"audio_id": 1}', "'opus_path' is missing"),
        (b'{"opus_path": "/etc/passwd"}', "must lie under SCRATCH_ROOT"),
        (b'{"opus_path": "/data/scratch/../secrets/a.opus"}', "must lie under SCRATCH_ROOT"),
        (b'{"opus_path": "a.opus"}', "must lie under SCRATCH_ROOT"),
        (b'{"opus_path": "/data/scratch/b/a.opus", "audio_id": "1"}', "audio_id is '1'"),
        (b'{"opus_path": "/data/scratch/b/a.opus", "audio_id": true}', "audio_id is True"),
        (b'{"opus_path": "/data/scratch/b/a.opus", "audio_id": -1}', "audio_id is -1"),
        (b'{"opus_path": "/data/scratch/b c/a.opus"}', "letters, digits"),
    ],
)
def test_a_bad_transcribe_job_is_refused_with_a_sentence(raw, reason):
    with pytest.raises(PayloadError, match=reason):
        parse_transcribe_job(raw, SCRATCH)


def test_a_symlink_out_of_scratch_is_refused(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "b").symlink_to("/etc")
    with pytest.raises(PayloadError, match="SCRATCH_ROOT"):
        parse_transcribe_job(
            json.dumps({"opus_path": str(tmp_path / "scratch/b/passwd")}).encode(), tmp_path / "scratch"
        )


@given(st.binary(max_size=300))
@pytest.mark.thorough
def test_any_bytes_are_read_or_refused_and_never_break_the_parser(raw):
    for parse in (parse_unpack_job, lambda data: parse_transcribe_job(data, SCRATCH)):
        try:
            parse(raw)
        except PayloadError as error:
            assert str(error)  # noqa: PT017 -- either outcome is right; a refusal must say why


@given(st.dictionaries(st.sampled_from(["batch_id", "s3_key", "opus_path", "audio_id"]), st.text() | st.integers()))
@pytest.mark.thorough
def test_any_json_object_is_read_or_refused(fields):
    raw = json.dumps(fields).encode()
    for parse in (parse_unpack_job, lambda data: parse_transcribe_job(data, SCRATCH)):
        try:
            parse(raw)
        except PayloadError as error:
            assert str(error)  # noqa: PT017


@given(st.text(min_size=1, max_size=200).filter(lambda name: name.strip() and "\0" not in name))
def test_what_is_written_is_read_back(name):
    raw = json.dumps({"batch_id": "b", "s3_key": "k", "original_filename": name}).encode()
    try:
        job = parse_unpack_job(raw)
    except PayloadError:
        return
    assert parse_unpack_job(job.to_json()) == job
