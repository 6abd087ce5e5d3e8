"""A clip's waveform and loudness in its row: written with it, kept, and filled in later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from config import Settings
from db import Database, NewClip
from local.services import Database as PostgresDatabase
from media.levels import Levels
from tests.results.test_db import HEARD, JOB, clip_job

LOUD = Levels(bytes(range(256)) + bytes(344), -14.25, -0.5)
QUIET = Levels(bytes([1, 0] * 300), -48.5, -33.0)
SILENT = Levels(bytes(600), None, None)
UNKNOWN = (None, None, None)
ROW = "SELECT peaks, loudness_lufs, peak_dbfs FROM audio_files"

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def db(settings: Settings, query: Query) -> Iterator[Database]:
    query("TRUNCATE batches CASCADE")
    opened = Database(settings)
    yield opened
    opened.close()


def unpack(db: Database, levels: Levels | None) -> None:
    clips = [NewClip(original_filename="a.mp3", levels=levels)]
    assert db.record_unpacked(JOB, db.begin_unpack(JOB), "host-1", total=1, clips=clips, skipped=[])


def save(db: Database, levels: Levels | None) -> None:
    db.save_results(
        db.ensure_clip(clip_job("a.mp3")).audio_id, transcript=HEARD, speech_model="base", verdicts=[],
        s3_opus_path="processed/2026-01-01/1.opus", duration_s=2.5, levels=levels,
    )  # fmt: skip


def stored(query: Query) -> tuple[Any, ...]:
    [(peaks, loudness, peak)] = query(ROW)
    return None if peaks is None else bytes(peaks), loudness, peak


def values(levels: Levels) -> tuple[Any, ...]:
    return levels.peaks, levels.loudness_lufs, levels.peak_dbfs


@pytest.mark.parametrize("levels", [LOUD, QUIET, SILENT])
def test_what_unpack_measured_is_stored_and_stays(db: Database, query: Query, levels: Levels) -> None:
    unpack(db, levels)
    assert stored(query) == values(levels)
    assert db.ensure_clip(clip_job("a.mp3")).has_levels
    save(db, None)
    assert stored(query) == values(levels)


def test_unpacking_again_replaces_the_levels_of_a_clip_without_results(db: Database, query: Query) -> None:
    unpack(db, LOUD)
    unpack(db, SILENT)
    assert stored(query) == values(SILENT)


def test_unpacking_again_leaves_the_levels_of_a_clip_with_results(db: Database, query: Query) -> None:
    unpack(db, LOUD)
    save(db, None)
    unpack(db, QUIET)
    assert stored(query) == values(LOUD)


@pytest.mark.parametrize("again", [LOUD, SILENT])
def test_what_the_gpu_worker_measured_replaces_all_three(db: Database, query: Query, again: Levels) -> None:
    unpack(db, QUIET)
    save(db, again)
    assert stored(query) == values(again)


def test_a_clip_without_levels_says_so_until_it_has_some(db: Database, query: Query) -> None:
    assert not db.ensure_clip(clip_job("a.mp3")).has_levels
    save(db, None)
    assert stored(query) == UNKNOWN
    save(db, SILENT)
    assert stored(query) == values(SILENT)
    assert db.ensure_clip(clip_job("a.mp3")).has_levels


def test_the_ra_app_reads_levels_and_cannot_change_them(db: Database, query: Query, database: PostgresDatabase) -> None:
    unpack(db, LOUD)
    connection = psycopg2.connect(database.ra_app_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(ROW)
        [(peaks, loudness, peak)] = cursor.fetchall()
        assert (bytes(peaks), loudness, peak) == values(LOUD)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("UPDATE audio_files SET peaks = NULL")
    connection.close()
    assert stored(query) == values(LOUD)
