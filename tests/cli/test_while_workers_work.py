"""Operators requeue, cancel, retry and drain while workers work: nothing is lost, doubled, or left behind.

Services, workers, conversions and the command line are real; the two models are stubs that take a moment per clip.
SEED=n chooses the moments. A command that must take effect at a certain moment is started earlier and waits at its
question on a terminal. It is answered at that moment, so it takes effect some milliseconds later.
"""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.job_queue import UNPACK
from jobs.queue_snapshot import StandingJob, standing_jobs
from local.services import Services
from tests.reliability.chaos import Observer
from tests.reliability.tones import is_broken
from tests.reliability.world import ROOT, WorkerProcess, World
from tests.workers.processes import wait_until

pytestmark = pytest.mark.thorough  # long races; tests/recovery and test_worker.py hold the same rules one by one
SEED = int(os.environ.get("SEED", "1"))
TTL_S = 4.0  # also the pause between looks for scratch that nobody needs any more
FEW = (*range(20), 39, 49, 79, 119)  # 24 clips, of which 3 are broken and one is silent
MANY = (*range(56), 79, 119, 159, 199)  # 60, with 5 and one
FLEET = (("unpack", "host-1"), ("unpack", "host-2"), ("gpu", "host-1"), ("gpu", "host-1"), ("gpu", "host-2"))
TRANSCRIBE = "queue:transcribe"
LOOK_S = 0.003  # between looks for a moment that passes quickly
CALM_S = 1.2  # a drained fleet is watched for so long; its workers look for jobs every 0.25 s
PATIENCE_S = 300.0  # on a busy machine an archive may wait long for its turn


class Command:
    """`audio-pipeline ARGUMENTS`, which waits at its question; `go` answers yes and waits for its end."""

    def __init__(self, world: World, *arguments: str) -> None:
        self._terminal, terminal = pty.openpty()
        self._process = start(world, *arguments, stdin=terminal)
        os.close(terminal)
        os.set_blocking(cast("Any", self._process.stdout).fileno(), False)
        self.said = b""
        wait_until(self._asks, f"the question of {arguments}: {self.said!r}")

    def go(self) -> tuple[int, str]:
        os.write(self._terminal, b"y\n")
        os.set_blocking(cast("Any", self._process.stdout).fileno(), True)
        said, errors = self._process.communicate(timeout=PATIENCE_S)
        os.close(self._terminal)
        return self._process.returncode, said.decode() + errors.decode()

    def _asks(self) -> bool:
        self.said += cast("Any", self._process.stdout).read() or b""
        return b"[y/N]" in self.said or self._process.poll() is not None


def start(world: World, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TERM": "dumb", **world.env}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src/cli.py"), *arguments],
        env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(world: World, *arguments: str, code: int = 0) -> str:
    process = start(world, *arguments)
    said, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, f"{arguments}: {process.returncode} {said.decode()} {errors.decode()}"
    return said.decode()


class Scene:
    """Working services and workers, queries about them, and the moments at which a command can take effect."""

    def __init__(self, world: World, batches: Sequence[str], clips: Sequence[int]) -> None:
        self.world = world
        self.batches = batches
        self.clips = clips
        self.broken = sum(map(is_broken, clips))
        self.fleet: list[WorkerProcess] = []
        self.observer = Observer(world)

    def begin(self) -> None:
        for batch_id in self.batches:
            self.world.inject(batch_id, self.clips)
        self.fleet = [self.world.worker(kind, number, WORKER_HOST=host) for number, (kind, host) in enumerate(FLEET)]
        self.observer.start()

    def rng(self, name: str) -> random.Random:
        return random.Random(f"{SEED} {name}")  # noqa: S311 -- to be repeated, not to be secret

    def standing(self, batch_id: str) -> list[StandingJob]:
        return [job for job in standing_jobs(self.world.redis, self.world.scratch) if job.batch_id == batch_id]

    def row(self, batch_id: str) -> tuple[bool, bool, bool]:
        """The batch's state -> (begun, complete, cancelled)."""
        rows = self.world.query(
            "SELECT completed_at IS NOT NULL, cancelled_at IS NOT NULL FROM batches WHERE batch_id = %s", batch_id
        )
        return (True, *rows[0]) if rows else (False, False, False)

    def pending(self, batch_id: str) -> int:
        return self.world.redis.scard(f"batch:{batch_id}:pending")

    def in_hand(self, batch_id: str, queue: str) -> bool:
        return any(job.in_flight and job.queue.startswith(queue) for job in self.standing(batch_id))

    def moments(self, batch_id: str) -> dict[str, Callable[[], bool]]:
        return {
            "it is being unpacked": lambda: self.in_hand(batch_id, UNPACK),
            "clips are in hand": lambda: self.in_hand(batch_id, TRANSCRIBE),
            "half of it is done": lambda: 0 < self.pending(batch_id) < len(self.clips) // 2,
            "its last clip is in hand": lambda: self.pending(batch_id) == 1,
            "it is complete": lambda: self.row(batch_id)[1],
            "whenever": lambda: True,
        }

    def wait_for(self, batch_id: str, moment: str) -> None:
        """Wait until the moment, or until the batch has ended and the moment cannot come any more."""
        come = self.moments(batch_id)[moment]
        until(lambda: come() or (not self.standing(batch_id) and self.row(batch_id)[1]), f"{batch_id}: {moment}")

    def rest(self) -> None:
        """Wait until all work is done and cleaned up; then stop the workers as systemd does."""
        wait_until(lambda: set(self.world.complete().values()) == {True} and not self.world.busy(), "rest", PATIENCE_S)
        for worker in self.fleet:
            worker.signal(signal.SIGTERM)
        assert [worker.wait() for worker in self.fleet] == [0] * len(self.fleet)
        self.observer.stop()

    def assert_good(self, *, again: Sequence[str] = ()) -> None:
        accounts = self.world.accounts(dict.fromkeys(self.batches, self.clips), again=again)
        assert [*accounts.problems, *sorted(set(self.observer.problems))] == []
        assert (accounts.lost, accounts.doubled) == (0, 0)
        broken = len(self.batches) * self.broken
        assert (accounts.done, accounts.failed) == (accounts.clips - broken, broken)
        bugs = [log for log in self.world.logs.iterdir() if "please report" in log.read_text("utf-8", "replace")]
        assert bugs == []


def until(condition: Callable[[], object], what: str) -> None:
    """Like `wait_until`, for moments that pass quickly."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s in vain for: {what}"
        pause(LOOK_S)


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@contextmanager
def at_work(
    root: Path,
    services: Services,
    batches: int,
    clips: Sequence[int] = FEW,
    *,
    clip_s: float = 0.03,
) -> Iterator[Scene]:
    # Few clips in hand: operators who drain every second would otherwise send back more clips than are done.
    more = {"CLIPS_IN_HAND": "4", "BATCH_WAIT_S": "0.05"}
    world = World(root, services, ttl_s=TTL_S, STUB_TAKES_S=str(clip_s), **more)
    scene = Scene(world, [f"b{number}" for number in range(batches)], clips)
    try:
        scene.begin()
        yield scene
    finally:
        for worker in scene.fleet:
            worker.kill()
        world.close()


def at_once(*tasks: Callable[[], None]) -> None:
    """Run all at the same time; raises the first failure."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result()


def begun(scene: Scene, batch_id: str) -> None:
    """Whether a worker has begun with the batch, so that commands know it."""
    until(lambda: scene.row(batch_id)[0], f"{batch_id} to be begun")


def at(scene: Scene, batch_id: str, moment: str, command: Command) -> tuple[int, str]:
    scene.wait_for(batch_id, moment)
    return command.go()


def requeue(scene: Scene, batch_id: str, moment: str, *options: str) -> None:
    begun(scene, batch_id)
    command = Command(scene.world, "batch", "requeue", batch_id, *options)
    assert_requeued(batch_id, at(scene, batch_id, moment, command))


def assert_requeued(batch_id: str, answer: tuple[int, str]) -> None:
    code, said = answer
    assert (code, f"{batch_id} stands in queue:unpack again" in said) == (0, True), said


def test_batches_requeued_at_any_moment_complete_once_per_run(services, tmp_path):
    with at_work(tmp_path, services, 3) as scene:

        def operator(batch_id: str) -> None:
            rng = scene.rng(batch_id)
            begun(scene, batch_id)
            # All stand at their questions before the first is answered, so that the others miss no moment after it.
            commands = {
                moment: Command(scene.world, "batch", "requeue", batch_id, *rng.choice([(), ("--everything",)]))
                for moment in rng.sample(sorted(scene.moments(batch_id)), k=2)
            }
            for moment, command in commands.items():
                assert_requeued(batch_id, at(scene, batch_id, moment, command))

        at_once(*(lambda batch_id=batch_id: operator(batch_id) for batch_id in scene.batches))
        scene.rest()
        scene.assert_good(again=scene.batches)


def results(scene: Scene, batch_id: str) -> dict[str, Any]:
    """Clips with results, and when they got them."""
    return dict(
        scene.world.query(
            "SELECT original_filename, processed_at FROM audio_files "
            "WHERE batch_id = %s AND status IN ('done', 'no_speech')",
            batch_id,
        )
    )


def in_time(batch_id: str, answer: tuple[int, str]) -> bool:
    """Whether the cancel came before the batch was complete."""
    code, said = answer
    assert (f"{batch_id} is cancelled" if code == 0 else "is complete; there is nothing to cancel") in said, said
    return code == 0


def cancelled(scene: Scene, batch_id: str, moment: str) -> bool:
    begun(scene, batch_id)
    command = Command(scene.world, "batch", "cancel", batch_id)
    return in_time(batch_id, at(scene, batch_id, moment, command))


def assert_nothing_is_left(scene: Scene, batch_id: str) -> None:
    """Check that nothing of a cancelled batch is left, and that nothing comes back."""
    assert traces(scene, batch_id) == []
    wait_until(lambda: not (scene.world.scratch / batch_id).exists(), f"the scratch of {batch_id} to go")
    pause(scene.rng(f"{batch_id} is watched").uniform(0, 2))
    assert traces(scene, batch_id) == []
    assert not (scene.world.scratch / batch_id).exists()
    assert scene.row(batch_id) == (True, False, True)


def traces(scene: Scene, batch_id: str) -> list[object]:
    keys = cast("list[bytes]", scene.world.redis.keys(f"batch:{batch_id}:*"))
    finishing = cast("set[bytes]", scene.world.redis.smembers("batches:finishing"))
    return [*scene.standing(batch_id), *keys, *(finishing & {batch_id.encode()})]


def test_batches_cancelled_at_any_moment_leave_nothing_and_complete_once_requeued(services, tmp_path):
    struck: list[str] = []
    kept: list[tuple[str, dict[str, Any]]] = []
    with at_work(tmp_path, services, 3, clip_s=0.1) as scene:

        def operator(batch_id: str) -> None:
            moments = scene.moments(batch_id).keys() - {"it is complete"}
            cancelled_now = cancelled(scene, batch_id, "whenever")
            for moment in scene.rng(batch_id).sample(sorted(moments), k=2):
                if not cancelled_now:
                    break  # it was complete before
                struck.append(moment)
                assert_nothing_is_left(scene, batch_id)
                kept.append((batch_id, results(scene, batch_id)))
                again = Command(scene.world, "batch", "requeue", batch_id)
                command = Command(scene.world, "batch", "cancel", batch_id)
                assert_requeued(batch_id, again.go())
                cancelled_now = in_time(batch_id, at(scene, batch_id, moment, command))
            if cancelled_now:
                assert_nothing_is_left(scene, batch_id)
                kept.append((batch_id, results(scene, batch_id)))
                requeue(scene, batch_id, "whenever")

        at_once(*(lambda batch_id=batch_id: operator(batch_id) for batch_id in scene.batches[:2]))
        scene.rest()
        scene.assert_good()
        for batch_id, before in kept:
            assert before.items() <= results(scene, batch_id).items(), "what had results was done again"
    assert struck


def test_failed_jobs_brought_back_in_a_loop_are_neither_lost_nor_doubled(services, tmp_path):
    brought_back: list[int] = []
    with at_work(tmp_path, services, 2) as scene:
        good = (len(scene.clips) - scene.broken) * len(scene.batches)

        def operator(number: int) -> None:
            """Run for a limited time: a batch never completes while its broken clips are retried again and again."""
            rng = scene.rng(str(number))
            while sum(len(results(scene, batch_id)) for batch_id in scene.batches) < good:
                said = run(scene.world, "failed", "retry", "--all", "--yes")
                brought_back.append(0 if said.startswith("No dead letters") else int(said.split()[0]))
                pause(rng.uniform(0, 0.2))

        at_once(lambda: operator(1), lambda: operator(2))
        wait_until(lambda: set(scene.world.complete().values()) == {True}, "all batches to be complete", PATIENCE_S)
        run(scene.world, "failed", "retry", "--all", "--yes")
        scene.rest()
        scene.assert_good()
        assert sum(brought_back) > scene.broken


def depths(scene: Scene) -> dict[str, int]:
    """The depths of the queues. Delayed jobs return to their queues, also while all workers are drained."""
    jobs = [job for job in standing_jobs(scene.world.redis, scene.world.scratch) if not job.in_flight]
    return {queue: sum(job.queue == queue for job in jobs) for queue in (UNPACK, TRANSCRIBE)}


def in_hand(scene: Scene, host: str = "*") -> list[bytes]:
    return cast("list[bytes]", scene.world.redis.keys(f"inflight:*:{host}:*:*"))


def test_a_drain_returns_when_nothing_is_in_hand_and_nothing_is_claimed_until_resume(services, tmp_path):
    drained_with_work = 0
    with at_work(tmp_path, services, 3, clip_s=0.2) as scene:
        rng = scene.rng("drain")
        wait_until(lambda: scene.world.redis.llen(TRANSCRIBE) > 20, "clips to flow")
        for everyone in (True, False, True):
            whom = ("--all",) if everyone else ("--host", "host-2")
            run(scene.world, "worker", "drain", *whom, "--wait", "60")
            before, claimed = depths(scene), in_hand(scene, "*" if everyone else "host-2")
            deadline = time.monotonic() + CALM_S
            while time.monotonic() < deadline and not claimed:
                claimed += in_hand(scene, "*" if everyone else "host-2")
                pause(LOOK_S)
            assert claimed == []
            if everyone:
                assert depths(scene) == before
                drained_with_work += sum(before.values()) > 0
            run(scene.world, "worker", "resume", *whom)
            pause(rng.uniform(0, 0.6))
        scene.rest()
        scene.assert_good()
    assert drained_with_work


class Operators:
    """Several operators at once, each with commands of one kind, until those who requeue and cancel have finished."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.over = threading.Event()

    def work(self) -> None:
        at_once(self.batches, self.letters, self.fleet)

    def batches(self) -> None:
        try:
            at_once(lambda: self.some_batches(0), lambda: self.some_batches(1))
        finally:
            self.over.set()

    def some_batches(self, first: int) -> None:
        rng = self.scene.rng(f"batches {first}")
        for batch_id in [batch_id for batch_id in self.scene.batches[first::2] for _ in range(4)]:
            moment = rng.choice(sorted(self.scene.moments(batch_id)))
            if rng.random() < 0.5 and cancelled(self.scene, batch_id, moment):
                moment = "whenever"
            requeue(self.scene, batch_id, moment, *rng.choice([(), ("--everything",)]))

    def letters(self) -> None:
        rng = self.scene.rng("letters")
        while not self.over.is_set():
            run(self.scene.world, "failed", "retry", *rng.choice([("--all",), ("--stage", "unpack")]), "--yes")
            pause(rng.uniform(0, 8))  # never to rest would let no batch be complete

    def fleet(self) -> None:
        rng = self.scene.rng("fleet")
        while not self.over.is_set():
            whom = rng.choice([("--all",), ("--host", "host-1"), ("--host", "host-2")])
            run(self.scene.world, "worker", "drain", *whom, "--wait", "60")
            pause(rng.uniform(0, 0.5))
            run(self.scene.world, "worker", "resume", *whom)
            pause(rng.uniform(0, 3))


def test_all_commands_at_random_while_workers_work(services, tmp_path):
    with at_work(tmp_path, services, 10, MANY) as scene:
        Operators(scene).work()
        scene.rest()
        scene.assert_good(again=scene.batches)
