"""A GPU that runs out of memory: clips are tried alone, and a clip that fails alone loses its attempts; when not even a
short clip fits, the worker is held and no clip loses anything.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.workers.conftest import dead_letters
from tests.workers.processes import wait_until
from tests.workers.programs import heartbeat_state
from tests.workers.tone_clips import START_S, Bench, Query, at_once

PITCHES = (440, 550, 660, 770)


@pytest.fixture
def bench(redis_db: redis.Redis, settings_env: dict[str, str], query: Query, tmp_path: Path) -> Bench:
    return Bench(redis_db, settings_env, query, tmp_path)


def test_clips_that_do_not_fit_together_are_done_one_at_a_time(bench: Bench):
    bench.inject(*PITCHES)
    with bench.worker(STUB_ROOM="1") as worker:
        wait_until(lambda: bench.done() == list(PITCHES), "all clips", START_S)
        assert "failed for several clips at once" in worker.text
        assert at_once(worker)[-1] == 1
        assert "held" not in worker.text
        bench.nobody_was_blamed(worker)


@pytest.mark.parametrize("others", [(550, 660), pytest.param((), marks=pytest.mark.thorough)])
def test_a_clip_that_needs_too_much_memory_loses_its_attempts_and_is_given_up(
    bench: Bench, redis_db: redis.Redis, tmp_path: Path, others: tuple[int, ...]
):
    (tmp_path / "too-big").write_text("440")
    bench.inject(440, *others)
    with bench.worker(STUB_TOO_BIG=str(tmp_path / "too-big")) as worker:
        wait_until(lambda: redis_db.llen("queue:failed") == 1, "the clip to be given up", START_S)
        wait_until(lambda: bench.done() == list(others), "the others")
        [letter] = dead_letters(redis_db)
        assert (letter["clip"], letter["attempts"], letter["error_class"]) == ("440.opus", 3, "DeviceMemoryError")
        assert "held" not in worker.text, "the device has room for others"
        bench.nobody_was_blamed(worker, but=[440])


@pytest.mark.thorough
def test_several_clips_that_need_too_much_memory_are_all_given_up(bench: Bench, redis_db: redis.Redis, tmp_path: Path):
    (tmp_path / "too-big").write_text(" ".join(map(str, PITCHES)))
    bench.inject(*PITCHES)
    with bench.worker(STUB_TOO_BIG=str(tmp_path / "too-big")) as worker:
        wait_until(lambda: redis_db.llen("queue:failed") == len(PITCHES), "all to be given up", START_S)
        assert [letter["attempts"] for letter in dead_letters(redis_db)] == [3] * len(PITCHES)
        assert "held" not in worker.text, "a short clip fits, so the device has room"


def test_when_not_even_a_short_clip_fits_the_worker_is_held(bench: Bench, redis_db: redis.Redis, tmp_path: Path):
    (tmp_path / "too-big").write_text("all")
    bench.inject(*PITCHES)
    with bench.worker(STUB_TOO_BIG=str(tmp_path / "too-big")) as worker:
        worker.wait_for("held: not claiming", START_S)
        wait_until(lambda: heartbeat_state(redis_db, worker).get("state") == "held", "the heartbeat to say so")
        assert "no memory left even for a few seconds of speech" in worker.text
        assert "nvidia-smi" in heartbeat_state(redis_db, worker)["detail"]
        assert redis_db.llen("queue:failed") == redis_db.hlen("queue:attempts") == 0

        (tmp_path / "too-big").unlink()
        wait_until(lambda: bench.done() == list(PITCHES), "all of them, when there is memory", START_S)
        bench.nobody_was_blamed(worker)
