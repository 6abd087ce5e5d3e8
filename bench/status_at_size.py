"""Measures how long `audio-pipeline status` takes with full queues and tables.

    PYTHONPATH=src:. python -m bench.status_at_size [--jobs 100000] [--rows 1000000]

The baseline is the same command on an empty pipeline, in the same run on the same machine. The difference is the cost
of the data. The benchmark starts real services.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg2
import redis

from local.services import Services

ROOT = Path(__file__).resolve().parents[1]
RUNS = 9
BATCH_CLIPS = 400
LETTERS = 2_000
FILL = """
    INSERT INTO batches (batch_id, s3_key, unpacked_at, unpack_host, completed_at, total)
    SELECT 'b' || b, 'archives/b' || b || '.tar', now() - make_interval(mins => b), 'gpu-0' || (1 + b %% 4),
           CASE WHEN b > 250 THEN now() - make_interval(mins => b) END, %(clips)s
    FROM generate_series(1, %(rows)s / %(clips)s) b;
    INSERT INTO audio_files (batch_id, original_filename, status, duration_s, processed_at)
    SELECT 'b' || (1 + n / %(clips)s), 'clip' || n || '.mp3', CASE WHEN n < 100000 THEN 'pending' ELSE 'done' END, 30,
           CASE WHEN n >= 100000 THEN now() - make_interval(secs => (n - 100000) * 0.5) END
    FROM generate_series(0, %(rows)s - 1) n;
    ANALYZE
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Services(Path(folder), durable=False) as services:
        database = services.make_database("status_at_size")
        services.make_bucket("status-at-size")
        env = {
            **os.environ,
            **services.environ(database=database.name, bucket="status-at-size", redis_db=1),
            "SCRATCH_ROOT": folder,
        }
        empty = measure(env)
        fill_postgres(database.admin_dsn, arguments.rows)
        fill_redis(redis.Redis(services.redis_host, services.redis_port, 1, services.redis_password), arguments.jobs)
        full = measure(env)
    sys.stdout.write(
        f"empty pipeline: median {statistics.median(empty):.2f} s, slowest {max(empty):.2f} s of {RUNS} runs\n"
        f"{arguments.jobs:,} jobs, {LETTERS:,} dead letters, 250 batches under way, {arguments.rows:,} clips in "
        f"Postgres: median {statistics.median(full):.2f} s, slowest {max(full):.2f} s of {RUNS} runs, "
        f"{statistics.median(full) / statistics.median(empty):.2f} times the empty one\n"
    )


def measure(env: dict[str, str]) -> list[float]:
    """Run the command several times and return the seconds of each run."""
    took = []
    for _ in range(RUNS):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(ROOT / "src/cli.py"), "status", "--json"], env=env, capture_output=True, check=False
        )
        took.append(time.monotonic() - began)
        if json.loads(done.stdout)["down"]:
            sys.exit(done.stdout.decode())
    return took


def fill_postgres(dsn: str, rows: int) -> None:
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(FILL, {"rows": rows, "clips": BATCH_CLIPS})
    connection.close()


def fill_redis(client: redis.Redis, jobs: int) -> None:
    queues = ["queue:unpack", *(f"queue:transcribe:gpu-0{number}" for number in range(1, 5))]
    with client.pipeline(transaction=False) as pipe:
        for number in range(jobs):
            job = {"batch_id": f"b{1 + number // BATCH_CLIPS}", "original_filename": f"clip{number}.mp3"}
            pipe.rpush(queues[number % len(queues)], json.dumps({**job, "opus_path": f"/data/scratch/b/{number}.opus"}))
        for number in range(1, 251):
            batch = f"batch:b{number}"
            pipe.mset({f"{batch}:total": BATCH_CLIPS, f"{batch}:processed": 0, f"{batch}:failed": 0})
            pipe.sadd(f"{batch}:pending", *(f"clip{clip}.mp3" for clip in range(BATCH_CLIPS)))
        for number in range(LETTERS):
            pipe.rpush("queue:failed", json.dumps(letter(number)))
        pipe.execute()
    client.close()


def letter(number: int) -> dict[str, object]:
    return {
        "queue": "queue:transcribe", "payload": json.dumps({"opus_path": f"/data/scratch/b/{number}.opus"}),
        "error_class": "PermanentError", "error": f"/data/scratch/b/{number}.opus holds no audio", "permanent": True,
        "attempts": 1, "interruptions": 0, "batch_id": "b1", "clip": f"clip{number}.mp3", "parked_s3_key": None,
        "worker": "gpu-01:1:n", "host": "gpu-01", "failed_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip


if __name__ == "__main__":
    main()
