"""Many clips in the hands of one worker: each keeps its own result, its own failure and its own attempts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import redis

from config import Settings
from jobs.batches import Batches
from tests.workers.conftest import dead_letters
from tests.workers.processes import wait_until
from tests.workers.tone_clips import JOBS, START_S, Bench, Query, at_once

SIXTEEN = tuple(range(300, 1100, 50))
POISONED = 700


@pytest.fixture
def bench(redis_db: redis.Redis, settings_env: dict[str, str], query: Query, tmp_path: Path) -> Bench:
    return Bench(redis_db, settings_env, query, tmp_path)


def test_many_clips_are_on_the_device_together_and_each_gets_its_own_result(bench: Bench):
    bench.inject(*SIXTEEN)
    with bench.worker() as worker:
        wait_until(lambda: bench.done() == list(SIXTEEN), "all clips", START_S)
        wait_until(lambda: not bench.in_hand(), "the last acknowledgement")
        assert max(at_once(worker)) > 1
        assert sum(at_once(worker)) == len(SIXTEEN), "none was done twice"
        bench.nobody_was_blamed(worker)
        assert worker.stop() == 0


@pytest.mark.thorough
def test_with_one_clip_in_hand_clips_are_done_one_after_the_other(bench: Bench):
    bench.inject(*SIXTEEN[:4])
    with bench.worker(CLIPS_IN_HAND="1") as worker:
        wait_until(lambda: bench.done() == list(SIXTEEN[:4]), "all clips", START_S)
        assert at_once(worker) == [1, 1, 1, 1]


def test_a_poisoned_clip_among_sixteen_is_found_and_fails_alone(bench: Bench, redis_db: redis.Redis, tmp_path: Path):
    (tmp_path / "poison").write_text(str(POISONED))
    bench.inject(*SIXTEEN)
    with bench.worker(STUB_POISON=str(tmp_path / "poison")) as worker:
        wait_until(lambda: redis_db.llen("queue:failed") == 1, "the clip to be given up", START_S)
        wait_until(lambda: not bench.in_hand(), "the others")
        [letter] = dead_letters(redis_db)
        assert (letter["clip"], letter["attempts"]) == (f"{POISONED}.opus", 3)
        assert "poison" in letter["error"]
        assert bench.done() == [pitch for pitch in SIXTEEN if pitch != POISONED]
        bench.nobody_was_blamed(worker, but=[POISONED])


def test_a_worker_that_is_killed_with_sixteen_clips_in_hand_costs_none(bench: Bench, tmp_path: Path):
    bench.inject(*SIXTEEN)
    with bench.worker(STUB_WAITS_FOR=str(tmp_path / "never")) as first:
        wait_until(lambda: len(bench.in_hand()) == 16 and at_once(first), "the clips to be in hand", START_S)
        first.send(signal.SIGKILL)
        first.exit_code()
    with bench.worker() as second:
        wait_until(lambda: bench.done() == list(SIXTEEN), "all clips", START_S)
        wait_until(lambda: not bench.in_hand(), "the last acknowledgement")
        assert at_once(second) == [1] * 16, "one of them may have killed the worker, so each is done alone"
        bench.nobody_was_blamed(second)


@pytest.mark.thorough
def test_a_clip_that_kills_its_worker_takes_others_with_it_only_once(
    bench: Bench, redis_db: redis.Redis, tmp_path: Path
):
    (tmp_path / "kills").write_text(str(POISONED))
    bench.inject(*SIXTEEN[:10])
    deaths = 0
    while not redis_db.llen("queue:failed"):
        with bench.worker(STUB_KILLS=str(tmp_path / "kills")) as worker:
            wait_until(lambda: redis_db.llen("queue:failed") or not worker.running, "its end", START_S)
            if worker.running:
                wait_until(lambda: bench.done() == [p for p in SIXTEEN[:10] if p != POISONED], "the others", START_S)
                break
            deaths += 1
    assert deaths == 3
    [letter] = dead_letters(redis_db)
    assert letter["clip"] == f"{POISONED}.opus"
    assert "3 workers died" in letter["error"]


def test_sigterm_hands_back_what_is_not_on_the_device_and_finishes_the_rest(
    bench: Bench, redis_db: redis.Redis, tmp_path: Path
):
    gate = tmp_path / "gate"
    bench.inject(*SIXTEEN)
    with bench.worker(CLIPS_IN_HAND="16", STUB_WAITS_FOR=str(gate)) as worker:
        wait_until(lambda: len(bench.in_hand()) == 16 and at_once(worker), "the clips to be in hand", START_S)
        worker.send(signal.SIGTERM)
        worker.wait_for("clips handed back")
        # Clips are prepared side by side, so those on the device need not be the first ones claimed.
        [begun] = at_once(worker)
        assert 1 <= begun <= 8, "at most half of them are on the device"
        on_device, waiting = bench.in_hand(), bench.waiting()
        assert len(on_device) == begun
        assert sorted(on_device + waiting) == list(SIXTEEN)
        assert waiting == sorted(waiting), "those handed back keep their order"
        gate.touch()
        assert worker.exit_code() == 0
    assert bench.done() == sorted(on_device)
    assert bench.waiting() == waiting
    assert bench.in_hand() == []
    assert redis_db.hlen("queue:attempts") == redis_db.hlen("queue:interruptions") == 0


@pytest.mark.thorough
def test_a_second_sigterm_hands_all_of_them_back(bench: Bench, tmp_path: Path):
    bench.inject(*SIXTEEN)
    with bench.worker(CLIPS_IN_HAND="16", STUB_WAITS_FOR=str(tmp_path / "never")) as worker:
        wait_until(lambda: len(bench.in_hand()) == 16 and at_once(worker), "the clips to be in hand", START_S)
        worker.send(signal.SIGTERM)
        worker.wait_for("clips handed back")
        [begun], waiting = at_once(worker), bench.waiting()
        worker.send(signal.SIGTERM)
        assert worker.exit_code() == 0
    assert sorted(bench.waiting()) == list(SIXTEEN)
    assert bench.waiting()[begun:] == waiting, "those that were on the device are the next ones"
    assert bench.in_hand() == []


@pytest.mark.thorough
def test_a_drained_worker_finishes_what_is_on_the_device_and_claims_nothing(
    bench: Bench, redis_db: redis.Redis, tmp_path: Path
):
    gate = tmp_path / "gate"
    bench.inject(*SIXTEEN)
    with bench.worker(CLIPS_IN_HAND="16", STUB_WAITS_FOR=str(gate)) as worker:
        wait_until(lambda: len(bench.in_hand()) == 16 and at_once(worker), "the clips to be in hand", START_S)
        redis_db.set("drain:all", "a test")
        worker.wait_for("clips handed back")
        gate.touch()
        wait_until(lambda: not bench.in_hand(), "the clips on the device to be finished")
        done, waiting = bench.done(), bench.waiting()
        assert sorted(done + waiting) == list(SIXTEEN)
        assert done
        assert waiting == sorted(waiting), "those that wait keep their order"
        redis_db.delete("drain:all")
        wait_until(lambda: bench.done() == list(SIXTEEN), "the rest, after the drain")
        bench.nobody_was_blamed(worker)


def test_clips_whose_batch_was_cancelled_do_not_come_to_the_device(
    bench: Bench, redis_db: redis.Redis, settings: Settings, tmp_path: Path
):
    gate = tmp_path / "gate"
    bench.inject(*SIXTEEN)
    with bench.worker(CLIPS_IN_HAND="16", STUB_WAITS_FOR=str(gate)) as worker:
        wait_until(lambda: len(bench.in_hand()) == 16 and at_once(worker), "the clips to be in hand", START_S)
        [begun] = at_once(worker)
        Batches(redis_db).cancel("b1", settings.scratch_root)
        gate.touch()
        worker.wait_for("job no longer belongs to this worker")
        wait_until(lambda: worker.text.count("job no longer belongs to this worker") == 16, "the worker to let go")
        assert sum(at_once(worker)) == begun
        bench.inject(440)
        wait_until(lambda: 440 in bench.done(), "the worker to go on")
        bench.nobody_was_blamed(worker)


def test_jobs_for_the_same_clip_wait_for_each_other_and_it_is_done_once(bench: Bench, redis_db: redis.Redis):
    job = bench.job(440)
    redis_db.rpush(JOBS, job, job, bench.job(440, note="the same clip in other words"), bench.job(550))
    with bench.worker() as worker:
        wait_until(lambda: bench.done() == [440, 550] and not bench.in_hand(), "all jobs", START_S)
        assert bench.waiting() == []
        assert worker.text.count("clip done") == 2
        assert worker.text.count("clip has its results already") == 2
        bench.nobody_was_blamed(worker)


@pytest.mark.thorough
def test_a_worker_that_has_grown_too_large_begins_anew_and_loses_no_clip(bench: Bench):
    bench.inject(*SIXTEEN)
    limit = {"WORKER_MEMORY_LIMIT_BYTES": str(800 << 20), "STUB_GROWS_MIB": "700", "CLIPS_IN_HAND": "8"}
    with bench.worker(**limit) as worker:
        assert worker.exit_code(START_S) == 1, "systemd starts it again"
        assert "WORKER_MEMORY_LIMIT_BYTES is 0.8 GiB" in worker.text
        assert "held" not in worker.text
    done = bench.done()
    assert done
    assert (done + bench.waiting(), bench.in_hand()) == (list(SIXTEEN), [])
    with bench.worker() as second:
        wait_until(lambda: bench.done() == list(SIXTEEN), "all clips", START_S)
        assert max(at_once(second)) > 1, "nobody takes its end for a death"
        bench.nobody_was_blamed(second)


def test_a_memory_limit_below_the_models_own_memory_is_refused(bench: Bench):
    with bench.worker(WORKER_MEMORY_LIMIT_BYTES="1000") as worker:
        assert worker.exit_code(START_S) == 78
        assert "WORKER_MEMORY_LIMIT_BYTES is 1000, but the loaded models alone take" in worker.text.splitlines()[-1]
