"""Clips that were given up and retried: repaired in S3, processed, and counted once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg2
import pytest
import redis

from config import Settings
from jobs.dead_letters import DeadLetter, DeadLetters
from media.audio import convert_to_opus
from s3_utils import ObjectStore
from tests.reliability.stub_gpu_worker import spoken
from tests.workers.conftest import StartWorker, tar, tone
from tests.workers.processes import wait_until
from tests.workers.programs import STUB_GPU, Program

GOOD, BAD, MENDED = 440, 0, 880  # hertz; what the stub hears is what it transcribes
MAX_CLIP_S = 60.0

StartGpu = Callable[[], Program]
Query = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def gpu(settings_env: dict[str, str], tmp_path: Path) -> Iterator[StartGpu]:
    """Start a GPU worker with stub models."""
    with ExitStack() as stack:

        def start() -> Program:
            env = {**settings_env, "RETRY_BASE_S": "0.1", "HEARTBEAT_TTL_S": "2"}
            return stack.enter_context(Program(STUB_GPU, env, tmp_path / "gpu.log"))

        yield start


@pytest.fixture
def letters(redis_db: redis.Redis, settings: Settings) -> DeadLetters:
    return DeadLetters(redis_db, settings.scratch_root)


@pytest.fixture
def unpacked(worker: StartWorker, put_archive: Callable[..., str]) -> Callable[[dict[str, bytes]], str]:
    """Unpack an archive of these members -> the batch id."""

    def run(members: dict[str, bytes]) -> str:
        batch = put_archive(tar(members))
        process = worker("unpack")
        process.wait_for("batch unpacked")
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        return batch

    return run


def the_letter(letters: DeadLetters) -> DeadLetter:
    [raw] = letters
    return letters.parse(raw)


def mend(store: ObjectStore, letter: DeadLetter, content: bytes) -> None:
    """Replace the parked file by a good one, as an operator would."""
    assert letter.parked_s3_key
    store.client.put_object(Bucket=store.bucket, Key=letter.parked_s3_key, Body=content)


def opus(folder: Path, hertz: float) -> bytes:
    (folder / "mended.wav").write_bytes(tone(hertz=hertz))
    convert_to_opus(folder / "mended.wav", folder / "mended.opus", max_clip_s=MAX_CLIP_S)
    return (folder / "mended.opus").read_bytes()


def outcome(query: Query, batch: str) -> list[tuple[object, ...]]:
    """Whether the batch is complete, and its counts."""
    return query(
        "SELECT completed_at IS NOT NULL, total, processed, failed FROM batches WHERE batch_id = %s",
        batch,
    )


def clips(query: Query, batch: str) -> dict[object, tuple[object, object]]:
    """Name -> (status, transcript)."""
    found = query(
        "SELECT original_filename, status, text FROM audio_files LEFT JOIN transcripts USING (audio_id) "
        "WHERE batch_id = %s",
        batch,
    )
    return {name: (status, text) for name, status, text in found}


def assert_all_is_well(query: Query, batch: str, names: dict[str, int], store: ObjectStore) -> None:
    """Every clip has the results and the levels of its own tone, its file is in S3, and the batch's counts say so."""
    assert clips(query, batch) == {name: ("done", spoken(hertz)) for name, hertz in names.items()}
    assert outcome(query, batch) == [(True, len(names), len(names), 0)]
    found = query("SELECT s3_opus_path, error, peak_dbfs FROM audio_files WHERE batch_id = %s AND peaks <> ''", batch)
    assert len(found) == len(names)
    for key, error, peak_dbfs in found:
        assert store.stored_size(str(key))
        assert error is None
        assert peak_dbfs == pytest.approx(-12, abs=2)


def assert_no_traces(client: redis.Redis, settings: Settings) -> None:
    wait_until(lambda: not client.keys("inflight:*"), "the last acknowledgement")
    assert client.keys("batch*") == client.keys("queue:*") == []
    assert list(settings.scratch_root.iterdir()) == []


def complete_with_a_failure(gpu: StartGpu, query: Query, batch: str, settings: Settings) -> Program:
    """Let the GPU worker finish the batch, of which one clip of two fails."""
    worker = gpu()
    worker.wait_for("batch complete")
    wait_until(lambda: not list(settings.scratch_root.iterdir()), "the batch's scratch to go")
    assert outcome(query, batch) == [(True, 2, 1, 1)]
    return worker


@pytest.mark.thorough
def test_a_broken_upload_that_is_mended_is_done_after_its_batch_and_scratch_are_gone(
    unpacked, gpu, letters, query, store, redis_db, settings
):
    batch = unpacked({"good.wav": tone(hertz=GOOD), "broken.mp3": b"no audio at all"})
    worker = complete_with_a_failure(gpu, query, batch, settings)
    letter = the_letter(letters)
    assert (letter.clip, letter.queue) == ("broken.mp3", "queue:unpack")
    mend(store, letter, tone(hertz=MENDED))

    assert letters.retry(letter)
    wait_until(lambda: worker.text.count("clip done") == 2, "the clip that came back")
    wait_until(lambda: outcome(query, batch) == [(True, 2, 2, 0)], "the batch's counts to be corrected")
    assert_all_is_well(query, batch, {"good.wav": GOOD, "broken.mp3": MENDED}, store)
    assert_no_traces(redis_db, settings)
    assert worker.text.count("batch complete") == 1, "it completes once"


def test_a_failed_clip_that_is_mended_is_done_after_its_batch_and_scratch_are_gone(
    unpacked, gpu, letters, query, store, redis_db, settings, tmp_path
):
    batch = unpacked({"good.wav": tone(hertz=GOOD), "spoilt.wav": tone(hertz=GOOD)})
    second = settings.scratch_root / batch / "00002.opus"
    assert second.is_file()
    second.write_bytes(b"damaged on the disk meanwhile")
    worker = complete_with_a_failure(gpu, query, batch, settings)
    letter = the_letter(letters)
    assert (letter.clip, letter.queue) == ("spoilt.wav", "queue:transcribe")
    mend(store, letter, opus(tmp_path, MENDED))

    assert letters.retry(letter)
    wait_until(lambda: outcome(query, batch) == [(True, 2, 2, 0)], "the batch's counts to be corrected")
    assert_all_is_well(query, batch, {"good.wav": GOOD, "spoilt.wav": MENDED}, store)
    assert_no_traces(redis_db, settings)
    assert worker.text.count("batch complete") == 1


@pytest.mark.thorough
def test_a_batch_that_is_still_under_way_waits_for_a_clip_that_comes_back(
    unpacked, gpu, letters, query, store, redis_db, settings
):
    batch = unpacked({"good.wav": tone(hertz=GOOD), "broken.mp3": b"no audio at all"})
    letter = the_letter(letters)
    mend(store, letter, tone(hertz=MENDED))
    assert redis_db.get(f"batch:{batch}:failed") == b"1"

    assert letters.retry(letter)
    assert redis_db.get(f"batch:{batch}:failed") == b"0"
    assert redis_db.smembers(f"batch:{batch}:pending") == {b"good.wav", b"broken.mp3"}
    worker = gpu()
    worker.wait_for("batch complete")
    wait_until(lambda: not redis_db.keys("batch*"), "the batch's keys to go")
    wait_until(lambda: not list(settings.scratch_root.iterdir()), "the batch's scratch to go")
    assert_all_is_well(query, batch, {"good.wav": GOOD, "broken.mp3": MENDED}, store)
    assert_no_traces(redis_db, settings)
    assert worker.text.count("batch complete") == 1


@pytest.mark.thorough
def test_a_clip_that_is_retried_unmended_fails_again_and_can_be_retried_again(
    unpacked, gpu, letters, query, store, redis_db, settings
):
    batch = unpacked({"good.wav": tone(hertz=GOOD), "broken.mp3": b"no audio at all"})
    worker = complete_with_a_failure(gpu, query, batch, settings)
    first = the_letter(letters)
    assert letters.retry(first)
    worker.wait_for("job given up")
    wait_until(lambda: redis_db.llen("queue:failed") == 1, "the second letter")
    second = the_letter(letters)
    assert (second.clip, second.queue) == ("broken.mp3", "queue:transcribe")
    assert outcome(query, batch) == [(True, 2, 1, 1)]
    assert list(settings.scratch_root.iterdir()) == []

    mend(store, first, tone(hertz=MENDED))
    assert letters.retry(second)
    wait_until(lambda: outcome(query, batch) == [(True, 2, 2, 0)], "the batch's counts to be corrected")
    assert_all_is_well(query, batch, {"good.wav": GOOD, "broken.mp3": MENDED}, store)
    assert_no_traces(redis_db, settings)


@pytest.mark.thorough
def test_a_letter_that_is_brought_back_twice_makes_one_job(unpacked, letters, redis_db):
    batch = unpacked({"good.wav": tone(hertz=GOOD), "broken.mp3": b"no audio at all"})
    letter = the_letter(letters)
    assert [letters.retry(letter), letters.retry(letter)] == [True, False]
    assert redis_db.llen("queue:transcribe") == 2
    assert redis_db.get(f"batch:{batch}:failed") == b"0"


@pytest.mark.thorough
def test_a_worker_that_dies_with_a_clip_that_came_back_leaves_no_files_to_the_next(
    unpacked, gpu, letters, query, store, redis_db, settings, database
):
    batch = unpacked({"good.wav": tone(hertz=GOOD), "broken.mp3": b"no audio at all"})
    first = complete_with_a_failure(gpu, query, batch, settings)
    letter = the_letter(letters)
    mend(store, letter, tone(hertz=MENDED))
    locked = psycopg2.connect(database.admin_dsn)
    with locked, locked.cursor() as cursor:
        cursor.execute("LOCK TABLE transcripts")  # so that it gets no further than to its results
        assert letters.retry(letter)
        wait_until(lambda: list(settings.scratch_root.glob(".parked-*/clip.opus")), "the clip to be fetched")
        first.send(signal.SIGKILL)
        first.exit_code()
    locked.close()
    assert list(settings.scratch_root.glob(".parked-*")), "it could not clear up"

    gpu()
    wait_until(lambda: outcome(query, batch) == [(True, 2, 2, 0)], "the batch's counts to be corrected")
    assert_all_is_well(query, batch, {"good.wav": GOOD, "broken.mp3": MENDED}, store)
    assert_no_traces(redis_db, settings)
