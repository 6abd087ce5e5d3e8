"""Clips of tones for a GPU worker with stub models, and what became of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import redis

from media.audio import convert_to_opus
from tests.reliability.stub_gpu_worker import spoken
from tests.workers.conftest import tone
from tests.workers.processes import WorkerProcess
from tests.workers.programs import STUB_GPU, Program

JOBS = "queue:transcribe"
START_S = 60.0  # a bound for a busy machine
BLAME = ("job failed; it is tried again", "job given up")

Query = Callable[..., list[tuple[object, ...]]]


class Bench:
    """A queue with jobs for tones, and stub workers that serve it. A clip is named by its pitch: 440.opus."""

    def __init__(self, client: redis.Redis, env: dict[str, str], query: Query, folder: Path) -> None:
        self.redis, self._query, self._folder = client, query, folder
        self._env = {**env, "RETRY_BASE_S": "0.1", "HEARTBEAT_TTL_S": "2"}
        self._started = 0

    @contextmanager
    def worker(self, **more: str) -> Iterator[Program]:
        """A stub worker with a log of its own; killed at the end of the block if it still runs."""
        self._started += 1
        with Program(STUB_GPU, {**self._env, **more}, self._folder / f"gpu-{self._started}.log") as program:
            yield program

    def job(self, pitch: int, **fields: object) -> bytes:
        """Make the clip of a tone -> its job."""
        folder = Path(self._env["SCRATCH_ROOT"]) / "b1"
        folder.mkdir(exist_ok=True)
        source, clip = folder / f"{pitch}.wav", folder / f"{pitch}.opus"
        source.write_bytes(tone(1.0, pitch))
        convert_to_opus(source, clip, max_clip_s=60)
        return json.dumps({"opus_path": str(clip), **fields}).encode()

    def inject(self, *pitches: int) -> None:
        for pitch in pitches:
            self.redis.rpush(JOBS, self.job(pitch))

    def waiting(self) -> list[int]:
        """The pitches of the jobs that wait in the queue, in order."""
        return [pitch_of(payload) for payload in cast("list[bytes]", self.redis.lrange(JOBS, 0, -1))]

    def in_hand(self) -> list[int]:
        """The pitches of the jobs that workers have claimed."""
        keys = cast("list[bytes]", self.redis.keys(f"inflight:{JOBS}:*"))
        found = [cast("list[bytes]", self.redis.lrange(key.decode(), 0, -1)) for key in keys]
        return [pitch_of(payload) for payloads in found for payload in payloads]

    def done(self) -> list[int]:
        """The pitches of the clips that have results, each of them its own, in order."""
        rows = self._query(
            "SELECT original_filename, text FROM audio_files JOIN transcripts USING (audio_id) WHERE status = 'done'"
        )
        found = {int(str(name).removesuffix(".opus")): text for name, text in rows}
        assert len(found) == len(rows), "a clip has one transcript"
        assert found == {pitch: spoken(pitch) for pitch in found}, "a result stands in another clip's row"
        return sorted(found)

    def nobody_was_blamed(self, worker: WorkerProcess, *, but: Sequence[int] = ()) -> None:
        """No job lost an attempt or became a dead letter, except the clips of these pitches."""
        lines = [line for line in worker.text.splitlines() if any(word in line for word in BLAME)]
        assert [line for line in lines if not any(f"clip={pitch}.opus" in line for pitch in but)] == []
        assert self.redis.hlen("queue:attempts") == self.redis.hlen("queue:interruptions") == 0


def pitch_of(payload: bytes) -> int:
    return int(Path(json.loads(payload)["opus_path"]).stem)


def at_once(worker: WorkerProcess) -> list[int]:
    """The numbers of clips that the worker's stub was given in its calls."""
    return [int(number) for number in re.findall(r"the stub transcribes at_once=(\d+)", worker.text)]
