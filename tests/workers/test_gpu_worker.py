"""gpu, as a process with the demo models on real speech: results, counts, completion, and the effect of a kill."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from jobs.job_queue import FINISHING
from jobs.payloads import probe_job
from tests.workers.conftest import dead_letters, tar
from tests.workers.processes import wait_until
from workers.probe import read_answer

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT / "local" / "samples" / "clips"
THREAT = "rustbolt77_7518830412.mp3"
MUSIC = "loopfactory_7518838011.mp3"
PLAIN = "hillside.rovers_7518836690.mp3"
START_S = 120.0  # a bound for loading the models on a busy machine


def sample(name: str) -> bytes:
    return (CLIPS / name).read_bytes()


def unpacked(worker, put_archive, names: list[str], batch_id: str = "test-001") -> str:
    batch = put_archive(tar({name: sample(name) for name in names}), batch_id)
    process = worker("unpack")
    process.wait_for("batch unpacked")
    process.send(signal.SIGTERM)
    process.exit_code()
    return batch


def is_over(redis_db, query, batch: str) -> bool:
    done = query("SELECT completed_at IS NOT NULL FROM batches WHERE batch_id = %s", batch)
    return done == [(True,)] and not redis_db.keys(f"batch:{batch}:*")


def test_a_batch_ends_with_transcripts_verdicts_and_no_traces(worker, put_archive, redis_db, query, settings, store):
    batch = unpacked(worker, put_archive, [THREAT, MUSIC, PLAIN])
    process = worker("gpu")
    process.wait_for("batch complete", START_S)
    wait_until(lambda: is_over(redis_db, query, batch), "the batch to be over")
    found = {
        name: (status, flagged, text)
        for name, status, flagged, text in query(
            """
            SELECT a.original_filename, a.status,
                   (SELECT array_agg(policy) FROM classifications c WHERE c.audio_id = a.audio_id AND violates),
                   t.text
            FROM audio_files a JOIN transcripts t USING (audio_id)
            """
        )
    }
    assert found[THREAT][:2] == ("done", ["violent-threats"])
    assert "garage on mill street" in found[THREAT][2].lower()
    assert found[PLAIN][:2] == ("done", None)
    assert found[MUSIC] == ("no_speech", None, "")
    assert query(
        "SELECT count(*) FROM classifications c JOIN audio_files a USING (audio_id) WHERE a.status = 'no_speech'"
    ) == [(0,)]
    verdicts = query("SELECT count(*), min(mass) > 0.5, bool_and(policy_sha256 <> '') FROM classifications")
    assert verdicts == [(8, True, True)], "two clips with speech, four policies"
    for audio_id, key, today in query(
        "SELECT audio_id, s3_opus_path, (now() AT TIME ZONE 'UTC')::date::text FROM audio_files"
    ):
        assert key == f"processed/{today}/{audio_id}.opus"
        assert store.stored_size(key)
    assert [name for (name,) in query("SELECT original_filename FROM ra_queue")] == [THREAT]
    assert list(settings.scratch_root.iterdir()) == []
    assert redis_db.keys("batch*") == redis_db.keys("inflight:*") == []
    assert query("SELECT total, processed, failed FROM batches") == [(3, 3, 0)]
    assert process.text.count("batch complete") == 1
    assert "both models stay loaded and take turns" in process.text
    assert "regex" not in process.text, "a library's warning stands in the log"

    # The same archive once more, by the same workers: nothing is done again, nothing doubles.
    unpacked(worker, put_archive, [THREAT, MUSIC, PLAIN])
    wait_until(lambda: is_over(redis_db, query, batch), "the batch to be over again")
    assert query("SELECT count(*) FROM audio_files") == query("SELECT count(*) FROM transcripts") == [(3,)]
    assert query("SELECT count(*) FROM classifications") == [(8,)]
    assert process.text.count("clip done") == 3

    # The guide's command, for a file that belongs to no batch: it gets its row and its results.
    clip = settings.scratch_root / "test-007" / "audio.opus"
    clip.parent.mkdir()
    [(key,)] = query("SELECT s3_opus_path FROM audio_files WHERE original_filename = %s", THREAT)
    store.download(key, clip)
    redis_db.lpush("queue:transcribe", json.dumps({"audio_id": 4711, "opus_path": str(clip)}))
    wait_until(lambda: process.text.count("clip done") == 4, "the injected clip")
    assert query("SELECT batch_id, original_filename, status FROM audio_files WHERE audio_id = 4711") == [
        ("test-007", "audio.opus", "done")
    ]
    assert clip.is_file(), "an operator's file is left where it is"

    # A probe goes through the models and leaves no row.
    redis_db.lpush("queue:transcribe:test-host", probe_job("n1"))
    wait_until(lambda: read_answer(redis_db, "n1"), "the probe's answer")
    answer = read_answer(redis_db, "n1") or {}
    assert "hillside park" in answer["heard"].lower()
    assert len(answer["scores"]) == 4
    assert query("SELECT count(*) FROM audio_files") == [(4,)]

    # What cannot be done is a dead letter, and the worker goes on.
    redis_db.rpush("queue:transcribe", b"{", json.dumps({"opus_path": str(clip.parent / "gone.opus")}))
    wait_until(lambda: redis_db.llen("queue:failed") == 2, "two dead letters")
    assert "is not on this host" in dead_letters(redis_db)[1]["error"]
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0
    assert redis_db.keys("worker:*") == []


@pytest.mark.thorough
def test_a_killed_worker_costs_no_clip_and_counts_none_twice(worker, put_archive, redis_db, query, settings):
    batch = unpacked(worker, put_archive, [THREAT, MUSIC, PLAIN])
    (opus,) = settings.scratch_root.glob(f"{batch}/00002.opus")
    opus.write_bytes(b"damaged on the disk meanwhile")
    first = worker("gpu", CLIPS_IN_HAND="1")  # with all in hand, they would be done before it is killed
    first.wait_for("clip done", START_S)
    first.send(signal.SIGKILL)
    first.exit_code()
    second = worker("gpu")
    second.wait_for("batch complete", START_S)
    wait_until(lambda: is_over(redis_db, query, batch), "the batch to be over")
    assert query("SELECT total, processed, failed FROM batches") == [(3, 2, 1)]
    assert query("SELECT count(*) FROM transcripts") == [(2,)]
    [letter] = dead_letters(redis_db)
    assert letter["parked_s3_key"] == f"failed/{batch}/00002.opus"
    assert not redis_db.exists(FINISHING)
    assert list(settings.scratch_root.iterdir()) == []


def test_a_missing_model_stops_the_worker_with_the_command_that_fetches_it(worker, tmp_path):
    process = worker("gpu", MODELS_ROOT=str(tmp_path / "models"))
    assert process.exit_code(START_S) == 78
    assert "python -m models fetch demo" in process.text.strip().splitlines()[-1]


@pytest.mark.parametrize("text", [pytest.param("", marks=pytest.mark.thorough), "+++\nid = 'x'\n+++\n"])
def test_a_malformed_policy_stops_the_worker_with_file_and_line(worker, tmp_path, text):
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    (tmp_path / "policies" / "broken.md").write_text(text)
    process = worker("gpu", POLICIES_DIR=str(tmp_path / "policies"))
    assert process.exit_code(START_S) == 78
    assert "broken.md:" in process.text.strip().splitlines()[-1]
