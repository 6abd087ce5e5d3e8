from __future__ import annotations

import io
import json
import tarfile
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import redis

from config import Settings
from s3_utils import ObjectStore
from tests.workers.processes import WorkerProcess

StartWorker = Callable[..., WorkerProcess]


def tone(seconds: float = 0.5, hertz: float = 440.0) -> bytes:
    """A WAV file."""
    samples = np.sin(2 * np.pi * hertz * np.arange(int(16_000 * seconds)) / 16_000) * 8_000
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def tar(members: dict[str, bytes], mode: Literal["w:", "w:xz", "w:gz"] = "w:") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def worker(settings_env: dict[str, str], tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker: `worker("unpack", HEARTBEAT_TTL_S="1")`; killed at the end of the test if it still runs."""
    started: list[WorkerProcess] = []

    def start(kind: str, **more: str) -> WorkerProcess:
        env = {**settings_env, "RETRY_BASE_S": "0.1", "HEARTBEAT_TTL_S": "1.5", **more}
        process = WorkerProcess(kind, env, tmp_path / f"{kind}-{len(started)}.log")
        started.append(process)
        return process

    yield start
    for process in started:
        process.__exit__()


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return ObjectStore(settings)


@pytest.fixture
def put_archive(store: ObjectStore, redis_db: redis.Redis) -> Callable[..., str]:
    """Put an archive into S3 and its job into the queue, as the guide's redis-cli line does -> the batch id."""

    def put(content: bytes, batch_id: str = "test-001") -> str:
        key = f"archives/{batch_id}.tar"
        store.client.put_object(Bucket=store.bucket, Key=key, Body=content)
        redis_db.lpush("queue:unpack", json.dumps({"batch_id": batch_id, "s3_key": key}))
        return batch_id

    return put


@pytest.fixture(autouse=True)
def empty_tables(query: Callable[..., Any]) -> None:
    query("TRUNCATE batches, operator_actions, policies CASCADE")


def dead_letters(client: redis.Redis) -> list[dict[str, Any]]:
    return [json.loads(letter) for letter in client.lrange("queue:failed", 0, -1)]
