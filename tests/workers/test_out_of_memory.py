"""A GPU that runs out of memory: the job is put off and counted; when every job needs too much, the worker is held."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from media.audio import convert_to_opus
from tests.workers.conftest import dead_letters, tone
from tests.workers.processes import wait_until
from tests.workers.programs import STUB_GPU, Program, heartbeat_state

JOBS = "queue:transcribe"
START_S = 60.0


@pytest.fixture
def too_big(tmp_path: Path) -> Path:
    """The file with the pitches for which the device runs out of memory."""
    return tmp_path / "too-big"


@pytest.fixture
def start(settings_env: dict[str, str], tmp_path: Path, too_big: Path) -> Iterator[Callable[[], Program]]:
    with ExitStack() as stack:

        def started() -> Program:
            env = {**settings_env, "RETRY_BASE_S": "0.1", "HEARTBEAT_TTL_S": "2", "STUB_TOO_BIG": str(too_big)}
            return stack.enter_context(Program(STUB_GPU, env, tmp_path / "gpu.log"))

        yield started


def inject(client: redis.Redis, settings_env: dict[str, str], *pitches: int) -> None:
    for pitch in pitches:
        folder = Path(settings_env["SCRATCH_ROOT"]) / "b1"
        folder.mkdir(exist_ok=True)
        source, clip = folder / f"{pitch}.wav", folder / f"{pitch}.opus"
        source.write_bytes(tone(1.0, pitch))
        convert_to_opus(source, clip, max_clip_s=60)
        client.rpush(JOBS, json.dumps({"opus_path": str(clip)}))


def done(query: Callable[..., list[tuple[object, ...]]]) -> list[object]:
    return [name for (name,) in query("SELECT original_filename FROM audio_files WHERE status = 'done' ORDER BY 1")]


def test_a_clip_that_needs_too_much_memory_is_put_off_and_given_up_in_the_end(
    start, too_big, redis_db, settings_env, query
):
    too_big.write_text("440")
    inject(redis_db, settings_env, 440, 550, 660)
    worker = start()
    wait_until(lambda: redis_db.llen("queue:failed") == 1, "the clip to be given up", START_S)
    wait_until(lambda: done(query) == ["550.opus", "660.opus"], "the others")
    [letter] = dead_letters(redis_db)
    assert letter["attempts"] == 3
    assert letter["error_class"] == "DeviceMemoryError"
    assert "reduce BATCH_SIZE" in letter["error"]
    assert worker.text.index("clip done") < worker.text.index("job given up"), "it did not stand in their way"
    assert "held" not in worker.text


def test_when_every_clip_needs_too_much_memory_the_worker_is_held(start, too_big, redis_db, settings_env, query):
    pitches = (440, 550, 660, 770)
    too_big.write_text(" ".join(map(str, pitches)))
    inject(redis_db, settings_env, *pitches)
    worker = start()
    worker.wait_for("held: not claiming", START_S)
    wait_until(lambda: heartbeat_state(redis_db, worker).get("state") == "held", "the heartbeat to say so")
    assert "3 jobs in a row ran out of memory" in worker.text
    assert "reduce BATCH_SIZE" in heartbeat_state(redis_db, worker)["detail"]
    assert redis_db.llen("queue:failed") == 0

    too_big.unlink()
    wait_until(lambda: len(done(query)) == len(pitches), "all of them, when there is memory", START_S)
    assert redis_db.llen("queue:failed") == redis_db.hlen("queue:attempts") == 0
