"""Descriptors, threads and memory of a GPU worker stay flat, however many jobs it does.

Most of a job's time here is S3 and Postgres, so the short form does 500; LEAK_JOBS=2000 is for releases.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from config import Settings
from media.audio import convert_to_opus
from tests.reliability import tones
from tests.workers.processes import wait_until
from tests.workers.programs import STUB_GPU, Program

QUEUE = "queue:transcribe"
JOBS = int(os.environ.get("LEAK_JOBS", "500"))
MIDDLE = JOBS // 2  # by then caches, pools and the allocator have their size
FILES, BROKEN_EVERY = 10, 20
# Growth between the middle and the end. Measured: 36 KiB of 500 jobs, 208 KiB of 2,000; 4,788 KiB of 500 jobs for a
# worker that was made to keep each clip's samples (19 KB).
MEMORY_BOUND_KIB = 2_048
RUN_S = 600.0  # a bound for a busy machine


@dataclass(frozen=True)
class Usage:
    """The resources of a process."""

    descriptors: int
    threads: int
    rss_kib: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        proc = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        return cls(len(list((proc / "fd").iterdir())), int(status["Threads"]), int(status["VmRSS"].split()[0]))


@pytest.fixture
def opus_files(settings: Settings, tmp_path: Path) -> list[Path]:
    """Clips in a directory of scratch, as an operator puts them there; the last is no audio."""
    folder = settings.scratch_root / "leaks"
    folder.mkdir()
    made = []
    for number in range(FILES):
        source, target = tmp_path / f"{number}.wav", folder / f"{number}.opus"
        source.write_bytes(tones.clip(number))
        convert_to_opus(source, target, max_clip_s=60.0)
        made.append(target)
    made.append(folder / "broken.opus")
    made[-1].write_bytes(b"no audio")
    return made


def jobs(files: list[Path], first: int, count: int) -> list[bytes]:
    """A job for each clip. One in BROKEN_EVERY fails, because failures may leak where successes do not."""
    *good, broken = files
    return [
        json.dumps(
            {
                "opus_path": str(broken if number % BROKEN_EVERY == 0 else good[number % FILES]),
                "original_filename": f"clip {number:05}",
            }
        ).encode()
        for number in range(first, first + count)
    ]


def idle_after(client: redis.Redis, payloads: list[bytes], worker: Program) -> Usage:
    """Wait until the jobs are done -> the resources of the idle worker."""
    client.rpush(QUEUE, *payloads)
    wait_until(lambda: not client.exists(QUEUE) and not client.keys("inflight:*"), "the jobs to be done", RUN_S)
    assert worker.running, worker.text
    return Usage.of(worker.pid)


@pytest.mark.thorough
def test_descriptors_threads_and_memory_are_flat_however_many_clips_are_done(
    settings_env: dict[str, str], redis_db: redis.Redis, database: Any, opus_files: list[Path], tmp_path: Path
):
    with Program(STUB_GPU, settings_env, tmp_path / "gpu.log") as worker:
        worker.wait_for("ready")
        middle = idle_after(redis_db, jobs(opus_files, 0, MIDDLE), worker)
        end = idle_after(redis_db, jobs(opus_files, MIDDLE, JOBS - MIDDLE), worker)

    assert redis_db.llen("queue:failed") == JOBS // BROKEN_EVERY
    connection = psycopg2.connect(database.admin_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM transcripts")
        assert cursor.fetchone() == (JOBS - JOBS // BROKEN_EVERY,), "all were done, each by itself"
    connection.close()
    assert (end.descriptors, end.threads) == (middle.descriptors, middle.threads)
    assert end.rss_kib - middle.rss_kib < MEMORY_BOUND_KIB, f"middle {middle}, end {end}"
