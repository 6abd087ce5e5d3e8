"""Postgres: writes that can be repeated, and roles that have no more rights than they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from config import Settings, load_settings
from db import Database, NewClip, Verdict
from errors import OperatorError, ServiceUnavailableError
from jobs.payloads import TranscribeJob, UnpackJob
from transcription import Segment, Transcript

JOB = UnpackJob(batch_id="b1", s3_key="archives/b1.tar", archive_name="x.tar.xz", transferred_at="2026-01-02T03:04:05Z")
HEARD = Transcript(
    text="we will meet at the market \0",
    language="en",
    language_probability=0.9,
    segments=(
        Segment(
            start=0.0,
            end=2.5,
            text="we will meet at the market",
            avg_logprob=-0.2,
            no_speech_prob=0.01,
            compression_ratio=1.1,
        ),
    ),
    speech_s=2.5,
    finding="speech",
    reasons=(),
    avg_logprob=-0.2,
    no_speech_prob=0.01,
    compression_ratio=float("inf"),
)
VERDICT = Verdict(
    policy="hate-speech", policy_version="1.0.0", policy_sha256="ab", model="m", prompt_version="p1",
    violates=True, score=0.9, threshold=0.5, mass=0.99, truncated=False,
)  # fmt: skip


def clip_job(name: str, *, batch_id: str = "b1", audio_id: int | None = None) -> TranscribeJob:
    return TranscribeJob(opus_path=Path("/s/x.opus"), batch_id=batch_id, original_filename=name, audio_id=audio_id)


@pytest.fixture
def db(settings: Settings, query):
    query("TRUNCATE batches CASCADE")
    opened = Database(settings)
    yield opened
    opened.close()


def unpack(db: Database, *names: str) -> None:
    clips = [NewClip(original_filename=name, platform_metadata={"likes": 3, "note": "a\0b"}) for name in names]
    run = db.begin_unpack(JOB)
    skipped = [("readme.txt", "not audio")]
    assert db.record_unpacked(JOB, run, "host-1", total=len(names), clips=clips, skipped=skipped)


def save(db: Database, audio_id: int, transcript: Transcript = HEARD) -> None:
    verdicts = [] if transcript.no_speech else [VERDICT]
    db.save_results(
        audio_id, transcript=transcript, speech_model="base", verdicts=verdicts,
        s3_opus_path=f"processed/2026-01-01/{audio_id}.opus", duration_s=2.5,
    )  # fmt: skip


def test_a_result_written_twice_is_there_once(db, query):
    unpack(db, "a.mp3")
    row = db.ensure_clip(clip_job("a.mp3"))
    for _ in range(2):
        save(db, row.audio_id)
    assert query("SELECT count(*) FROM transcripts") == [(1,)]
    assert query("SELECT count(*) FROM classifications") == [(1,)]
    assert query("SELECT audio_id, policies, transcript FROM ra_queue") == [
        (row.audio_id, ["hate-speech"], "we will meet at the market ")
    ]


def test_unpacking_again_keeps_what_is_done_and_the_rows_stay_one(db, query):
    unpack(db, "a.mp3", "b.mp3")
    save(db, db.ensure_clip(clip_job("a.mp3")).audio_id)
    unpack(db, "a.mp3", "b.mp3")
    assert query("SELECT original_filename, status FROM audio_files ORDER BY 1") == [
        ("a.mp3", "done"),
        ("b.mp3", "pending"),
    ]


def test_a_clip_without_speech_has_no_verdict_and_is_not_in_the_queue(db, query):
    unpack(db, "quiet.mp3")
    silent = replace(
        HEARD, text="", language=None, segments=(), speech_s=0.0, finding="no_speech", reasons=("no-words",)
    )
    row = db.ensure_clip(clip_job("quiet.mp3"))
    save(db, row.audio_id, silent)
    assert db.ensure_clip(clip_job("quiet.mp3")).status == "no_speech"
    assert query("SELECT count(*) FROM ra_queue") == [(0,)]


def test_an_injected_audio_id_is_used_when_free_and_later_ids_do_not_collide(db):
    assert db.ensure_clip(clip_job("a.opus", batch_id="test-001", audio_id=900_001)).audio_id == 900_001
    assert db.ensure_clip(clip_job("a.opus", batch_id="test-001", audio_id=900_001)).audio_id == 900_001
    assert db.ensure_clip(clip_job("b.opus", batch_id="test-001")).audio_id == 900_002


def test_an_injected_audio_id_of_another_clip_is_left_alone(db):
    first = db.ensure_clip(clip_job("a.opus")).audio_id
    second = db.ensure_clip(clip_job("other.opus", batch_id="test-001", audio_id=first)).audio_id
    assert second != first


def test_a_batch_is_finished_once_and_its_counts_come_from_its_clips(db):
    clips = [NewClip(original_filename="a.mp3"), NewClip(original_filename="bad.mp3", error="not audio")]
    assert db.record_unpacked(JOB, db.begin_unpack(JOB), "host-1", total=2, clips=clips, skipped=[])
    save(db, db.ensure_clip(clip_job("a.mp3")).audio_id)
    finished = db.finish_batch("b1")
    assert (finished.total, finished.processed, finished.failed) == (2, 1, 1)
    assert db.finish_batch("b1") is None
    assert db.batch_finished("b1") is True


def test_a_failure_never_overwrites_a_result(db, query):
    unpack(db, "a.mp3")
    save(db, db.ensure_clip(clip_job("a.mp3")).audio_id)
    db.mark_failed("b1", "a.mp3", "late failure of a worker that was taken for dead")
    assert query("SELECT status, error FROM audio_files") == [("done", None)]


def test_transcripts_can_be_searched_by_word(db, query):
    unpack(db, "a.mp3")
    save(db, db.ensure_clip(clip_job("a.mp3")).audio_id)
    found = "SELECT count(*) FROM transcripts WHERE search @@ websearch_to_tsquery('english', '{}')"
    assert query(found.format("meeting markets")) == [(1,)]
    assert query(found.format("airport")) == [(0,)]


def test_a_platforms_metadata_survives_what_postgres_cannot_store(db, query):
    unpack(db, "a.mp3")
    assert query("SELECT platform_metadata FROM audio_files") == [({"likes": 3, "note": "ab"},)]


def test_the_schema_can_be_applied_twice(services, database, query):
    services.apply_schema(database.name)
    assert query("SELECT version FROM schema_version") == [(1,), (2,), (3,), (4,), (5,), (6,), (7,), (8,)]


def test_a_database_without_our_schema_is_named_with_the_command_to_run(settings_env):
    empty = Database(load_settings({**settings_env, "POSTGRES_DB": "postgres"}))
    with pytest.raises(OperatorError, match=r"schema version 0.*psql -d postgres -f schema\.sql"):
        empty.check()
    empty.close()


@pytest.mark.parametrize("wrong", [{"POSTGRES_PASSWORD": "wrong"}, {"POSTGRES_PORT": "1"}, {"POSTGRES_DB": "nothing"}])
def test_an_unusable_database_is_one_sentence_that_says_where_to_look(settings_env, wrong):
    unusable = Database(load_settings({**settings_env, **wrong}))
    with pytest.raises(ServiceUnavailableError, match=r"^Postgres at .* cannot be used; check") as caught:
        unusable.check()
    assert "\n" not in str(caught.value)
    assert "wrong" not in str(caught.value)


@pytest.fixture
def ra_table(database):
    """A table of the role ra_app, as the RA app's migrations make it."""
    connection = psycopg2.connect(database.ra_app_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS ra_probe (note text)")
    connection.close()


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("pipeline", "SELECT * FROM ra_app.ra_probe"),
        ("pipeline", "INSERT INTO ra_app.ra_probe VALUES ('x')"),
        ("pipeline", "DROP TABLE ra_app.ra_probe"),
        ("pipeline", "CREATE TABLE mine (id int)"),
        ("pipeline", "DELETE FROM audio_files"),
        ("pipeline", "TRUNCATE transcripts"),
        ("pipeline", "DROP TABLE classifications"),
        ("pipeline", "UPDATE policies SET text = 'x'"),
        ("pipeline", "DELETE FROM policies"),
        ("pipeline", "TRUNCATE policies"),
        ("ra_app", "INSERT INTO policies (policy, version, sha256, title, text) VALUES ('a', '1', 'b', 'c', 'd')"),
        ("ra_app", "UPDATE policies SET text = 'x'"),
        ("ra_app", "UPDATE transcripts SET finding = 'speech'"),
        ("ra_app", "UPDATE classifications SET judged = 'translation'"),
        ("ra_app", "INSERT INTO batches (batch_id) VALUES ('x')"),
        ("ra_app", "UPDATE audio_files SET status = 'done'"),
        ("ra_app", "DELETE FROM transcripts"),
        ("ra_app", "ALTER TABLE audio_files ADD COLUMN x int"),
        ("ra_app", "DROP VIEW ra_queue"),
        ("ra_app", "CREATE ROLE other"),
        ("ra_app", "CREATE TABLE public.mine (id int)"),
        ("ra_app", "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        ("ra_app", "CREATE SCHEMA mine"),
        ("ra_app", "CREATE TEMPORARY TABLE mine (id int)"),
        ("pipeline", "CREATE TABLE ra_app.mine (id int)"),
    ],
)
@pytest.mark.usefixtures("ra_table")
def test_what_is_not_a_roles_business_is_refused(database, role, statement):
    connection = psycopg2.connect(database.pipeline_dsn if role == "pipeline" else database.ra_app_dsn)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), connection, connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def test_the_ra_app_reads_what_the_pipeline_wrote(database):
    connection = psycopg2.connect(database.ra_app_dsn)
    with connection, connection.cursor() as cursor:
        for name in (
            "batches", "audio_files", "transcripts", "classifications", "policies", "verdicts_in_force", "ra_queue",
        ):  # fmt: skip
            cursor.execute(f"SELECT count(*) FROM {name}")
    connection.close()
