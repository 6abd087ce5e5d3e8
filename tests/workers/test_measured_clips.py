"""Every clip with results has a waveform and a loudness, whichever way it came."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from tests.workers.conftest import StartWorker, tar, tone
from tests.workers.processes import wait_until
from tests.workers.tone_clips import Bench

Query = Callable[..., list[tuple[Any, ...]]]
Found = tuple[list[int], float | None, float | None]  # peaks, loudness, peak

# `tone` has an amplitude of 8000: -12.2 dB of full scale. At 1 kHz that is about as many LUFS, at 440 Hz a little less.
PEAK_DBFS = 20 * np.log10(8000 / 32_768)
LEVELS = "SELECT original_filename, peaks, loudness_lufs, peak_dbfs FROM audio_files ORDER BY 1"


def levels(query: Query) -> dict[str, Found]:
    """The levels of the clips that have some, by name."""
    return {name: (list(bytes(peaks)), loudness, peak) for name, peaks, loudness, peak in query(LEVELS) if peaks}


def assert_is_a_tone(found: Found, *, tolerance: float) -> None:
    peaks, loudness, peak = found
    assert len(peaks) == 600
    assert np.median(peaks) == pytest.approx(8000 * 255 / 32_768, abs=1 + 255 * tolerance / 10)
    assert loudness == pytest.approx(-12.9, abs=0.5)
    assert peak == pytest.approx(PEAK_DBFS, abs=0.05 + 10 * tolerance)


def unpack(worker: StartWorker, put_archive: Callable[..., str], members: dict[str, bytes]) -> str:
    batch = put_archive(tar(members))
    process = worker("unpack")
    process.wait_for("batch unpacked")
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0
    return batch


@pytest.mark.thorough
def test_clips_of_an_archive_are_measured_when_they_are_unpacked(
    worker: StartWorker, put_archive: Callable[..., str], query: Query, redis_db: redis.Redis
) -> None:
    members = {"a.wav": tone(1.0), "short.wav": tone(0.2), "silent.wav": tone(1.0, 0.0), "broken.mp3": b"no audio"}
    unpack(worker, put_archive, members)
    found = levels(query)
    assert found.keys() == {"a.wav", "short.wav", "silent.wav"}
    assert_is_a_tone(found["a.wav"], tolerance=0)
    assert found["short.wav"][1] is None
    assert found["silent.wav"] == ([0] * 600, None, None)
    jobs = [json.loads(job) for queue in redis_db.keys("queue:transcribe*") for job in redis_db.lrange(queue, 0, -1)]
    assert len(jobs) == 3
    assert all(job.keys() == {"batch_id", "opus_path", "original_filename"} for job in jobs), "levels are for Postgres"


def test_the_gpu_worker_measures_clips_whose_row_has_no_levels(
    settings_env: dict[str, str],
    tmp_path: Path,
    worker: StartWorker,
    put_archive: Callable[..., str],
    redis_db: redis.Redis,
    query: Query,
) -> None:
    unpack(worker, put_archive, {"earlier.wav": tone(1.0), "measured.wav": tone(1.0)})
    query("UPDATE audio_files SET peaks = NULL, loudness_lufs = NULL WHERE original_filename = 'earlier.wav'")
    query("UPDATE audio_files SET loudness_lufs = -99 WHERE original_filename = 'measured.wav'")
    bench = Bench(redis_db, settings_env, query, tmp_path)
    bench.inject(440)
    with bench.worker() as gpu:
        wait_until(lambda: gpu.text.count("clip done") == 3, "the clips")
    found = levels(query)
    for name in ("440.opus", "earlier.wav"):
        assert_is_a_tone(found[name], tolerance=0.1)
    assert found["measured.wav"][1] == -99, "what unpack has measured is not measured again"
