"""Jobs whose file is not a clip: each becomes a dead letter that says what the path is, and no row is written."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from config import Settings
from tests.workers.conftest import dead_letters
from tests.workers.processes import wait_until
from tests.workers.programs import STUB_GPU, Program

SRC = Path(__file__).resolve().parents[2] / "src"
Query = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def gpu(settings_env: dict[str, str], tmp_path: Path) -> Iterator[Program]:
    with Program(STUB_GPU, {**settings_env, "HEARTBEAT_TTL_S": "5"}, tmp_path / "gpu.log") as program:
        program.wait_for("ready")
        yield program


@pytest.mark.usefixtures("gpu")
def test_each_thing_that_is_no_file_is_named_and_leaves_no_row(
    redis_db: redis.Redis, query: Query, settings: Settings
) -> None:
    folder = settings.scratch_root / "by-hand"
    (folder / "directory.opus").mkdir(parents=True)
    os.mkfifo(folder / "fifo.opus")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.opus"))
        (folder / "file.opus").write_bytes(b"x")
        expected = {
            "typo.opus": "is not on this host (test-host)",
            "file.opus/typo.opus": "is not on this host (test-host)",
            "directory.opus": "is a directory, not an audio file",
            "fifo.opus": "is a FIFO, not an audio file",
            "s.opus": "is a socket, not an audio file",
            "../../outside.opus": "must lie under SCRATCH_ROOT",
        }
        redis_db.rpush("queue:transcribe", *(json.dumps({"opus_path": f"{folder}/{name}"}) for name in expected))
        wait_until(lambda: redis_db.llen("queue:failed") == len(expected), "a dead letter for each")
    letters = {json.loads(letter["payload"])["opus_path"]: letter for letter in dead_letters(redis_db)}
    for name, reason in expected.items():
        letter = letters[f"{folder}/{name}"]
        assert reason in letter["error"], name
        assert letter["parked_s3_key"] is None
    assert query("SELECT count(*) FROM audio_files") == query("SELECT count(*) FROM batches") == [(0,)]


@pytest.mark.usefixtures("gpu")
def test_a_clip_that_s3_does_not_have_leaves_no_row(redis_db: redis.Redis, query: Query, settings: Settings) -> None:
    job = {"opus_path": f"{settings.scratch_root}/b1/x.opus", "opus_s3_key": "failed/b1/none.opus"}
    redis_db.rpush("queue:transcribe", json.dumps(job))
    wait_until(lambda: redis_db.llen("queue:failed") == 1, "the dead letter")
    assert query("SELECT count(*) FROM audio_files") == query("SELECT count(*) FROM batches") == [(0,)]


@pytest.mark.usefixtures("gpu")
def test_a_file_that_is_no_audio_is_a_failed_clip_and_nothing_stays_open(
    redis_db: redis.Redis, query: Query, settings: Settings
) -> None:
    clip = settings.scratch_root / "by-hand" / "text.opus"
    clip.parent.mkdir()
    clip.write_text("no audio")
    redis_db.rpush("queue:transcribe", json.dumps({"opus_path": str(clip)}))
    wait_until(lambda: redis_db.llen("queue:failed") == 1, "the dead letter")
    assert query("SELECT status FROM audio_files") == [("failed",)]


def test_a_file_that_may_not_be_read_says_for_whom(tmp_path: Path) -> None:
    clip = tmp_path / "clip.opus"
    clip.write_bytes(b"x")
    clip.chmod(0)
    tmp_path.chmod(0o755)
    code = (
        "import pathlib, sys; from scratch import clip_files; print(clip_files.problem(pathlib.Path(sys.argv[1]), 'h'))"
    )
    reader = "nobody" if os.geteuid() == 0 else None  # root may read everything
    done = subprocess.run(
        [sys.executable, "-c", code, str(clip)],
        env={"PYTHONPATH": str(SRC)}, user=reader, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(f"{clip} cannot be read by {reader or getpass.getuser()}: give that user the right")
