"""Real workers get hostile input in a directory tree; every entry of the tree is compared before and after.

Layout: `scratch` is SCRATCH_ROOT, and holds a directory of an operator that the pipeline must not touch; `outside`
holds the targets of hostile links and paths; `cwd` and `tmp` are the workers' current and temporary directories.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg2
import redis

from config import load_settings
from jobs.dead_letters import DeadLetter, DeadLetters
from jobs.job_queue import FAILED, UNPACK
from local.services import Services
from s3_utils import ObjectStore
from tests.databases import fresh_database
from tests.reliability.hostile_tar import Tar
from tests.reliability.tones import clip, pitch
from tests.workers.processes import SRC, WorkerProcess, wait_until

UNPACKER = "workers.unpack_worker"
STUB_GPU = "tests.reliability.stub_gpu_worker"
LASTING = {b"hosts:seen", b"lease:reap", b"lease:reconcile", b"pipeline:memory", FAILED.encode()}
FORGED = "2001-01-01T00:00:00 INFO unpack batch complete batch=forged"  # what hostile text puts behind a line's end
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
REDIS_DB = 1
GOOD = "the good clip.wav"


class Besieged(WorkerProcess):
    """`python -m {module}`, in a directory where a forbidden file would be noticed."""

    def __init__(self, module: str, env: dict[str, str], log: Path, cwd: Path) -> None:
        self.kind, self.log = module, log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=cwd,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{SRC}:{SRC.parent}", **env},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )


def tone(number: int = 7) -> bytes:
    return clip(number)


def heard(number: int = 7) -> str:
    """The transcript of the stub for `tone(number)`."""
    return f"a tone of {pitch(number)} hertz"


def snapshot(root: Path, *ignored: Path) -> dict[str, tuple[object, ...]]:
    """Every entry under `root`: kind and mode, links, time of change, and content or target."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        if any(path == other or path.is_relative_to(other) for other in ignored):
            continue
        facts = path.lstat()
        content: object = None
        if stat.S_ISLNK(facts.st_mode):
            content = path.readlink()
        elif stat.S_ISREG(facts.st_mode):
            content = (facts.st_nlink, facts.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        found[str(path.relative_to(root))] = (oct(facts.st_mode), content)
    return found


class Siege:
    def __init__(self, root: Path, env: dict[str, str], client: redis.Redis, dsn: str) -> None:
        self.root, self.redis, self._dsn = root, client, dsn
        self.scratch, self.outside, self._logs = root / "scratch", root / "outside", root / "logs"
        self._cwd, self._tmp = root / "cwd", root / "tmp"
        self._env = {
            **env,
            "SCRATCH_ROOT": str(self.scratch),
            "MODELS_ROOT": str(root),
            "WORKER_HOST": "besieged",
            "RETRY_BASE_S": "0.1",
            "CONVERT_PROCESSES": "2",
            "TMPDIR": str(self._tmp),
            "HOME": str(self._cwd),
        }
        self.store = ObjectStore(load_settings(self._env))
        for folder in (self.outside / "folder", self._logs, self._cwd, self._tmp, self.scratch / "by-hand"):
            folder.mkdir(parents=True)
        (self.outside / "victim.wav").write_bytes(b"nobody may change this")
        (self.outside / "link.wav").symlink_to(self.outside / "victim.wav")
        (self.scratch / "by-hand" / "00001.opus").write_bytes(b"nor this")
        self.remember()
        self.sent: dict[str, bytes] = {}
        self.workers: list[WorkerProcess] = []

    def remember(self) -> None:
        """Record the entries of the tree: they must be the same at the end."""
        self._before = snapshot(self.root, self._logs)

    def start(self, module: str, **more: str) -> WorkerProcess:
        log = self._logs / f"{len(list(self._logs.iterdir()))}-{module}.log"
        self.workers.append(Besieged(module, {**self._env, **more}, log, self._cwd))
        return self.workers[-1]

    def put(self, batch_id: str, archive: bytes, **fields: object) -> str:
        """An archive in S3, and its job at the end of the queue."""
        key = f"archives/{batch_id}.tar"
        self.store.client.put_object(Bucket=self.store.bucket, Key=key, Body=archive)
        self.sent[batch_id] = json.dumps({"batch_id": batch_id, "s3_key": key, **fields}).encode()
        self.redis.rpush(UNPACK, self.sent[batch_id])
        return batch_id

    def put_good(self, batch_id: str) -> str:
        return self.put(batch_id, Tar().add(GOOD, tone()).close())

    def query(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self._dsn)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql, arguments)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def letters(self) -> list[DeadLetter]:
        return [DeadLetter.parse(raw, self.scratch) for raw in cast("list[bytes]", self.redis.lrange(FAILED, 0, -1))]

    def reasons(self) -> dict[str, str]:
        """The errors of dead letters of whole archives, by batch. Check that each holds the exact payload."""
        found = {}
        for letter in self.letters():
            if letter.clip is None:
                batch_id = json.loads(letter.payload)["batch_id"]
                assert letter.payload == self.sent[batch_id]
                found[batch_id] = letter.error
        return found

    def wait_complete(self, *batches: str, within_s: float = 60) -> None:
        def over() -> bool:
            for worker in self.workers:
                assert worker.running, f"{worker.kind} is not alive:\n{worker.text[-3000:]}"
            done = self.query("SELECT batch_id FROM batches WHERE completed_at IS NOT NULL")
            return {(batch,) for batch in batches} <= set(done) and not self.redis.keys("batch:*")

        wait_until(over, f"{batches} to be complete", within_s)

    def clips(self, batch_id: str) -> dict[str, str | None]:
        """The transcripts of the batch's clips; '' for silence, None for a clip that failed."""
        return dict(
            self.query(
                "SELECT original_filename, text FROM audio_files LEFT JOIN transcripts USING (audio_id) "
                "WHERE batch_id = %s ORDER BY 1",
                batch_id,
            )
        )

    def counts(self, batch_id: str) -> tuple[int, int, int]:
        """-> (total, processed, failed)."""
        [found] = self.query("SELECT total, processed, failed FROM batches WHERE batch_id = %s", batch_id)
        return cast("tuple[int, int, int]", found)

    def skipped(self, batch_id: str) -> list[tuple[str, str]]:
        [(found,)] = self.query("SELECT skipped_members FROM batches WHERE batch_id = %s", batch_id)
        return [(item["name"], item["reason"]) for item in found]

    def assert_unharmed(self) -> None:
        """Check that the workers live, and that nothing has changed except results and dead letters."""
        for worker in self.workers:
            assert worker.running, f"{worker.kind} is not alive:\n{worker.text[-3000:]}"
        # While a worker runs, the processes that convert for it have a socket in its temporary directory.
        before = {name: facts for name, facts in self._before.items() if not Path(name).is_relative_to("tmp")}
        assert snapshot(self.root, self._logs, self._tmp) == before
        keys = {key for key in cast("list[bytes]", self.redis.keys("*")) if not key.startswith(b"worker:")}
        assert keys <= LASTING
        for worker in self.workers:
            for line in worker.text.splitlines():  # which also splits at U+0085, U+2028 and the like
                assert not line.startswith(FORGED[:10]), f"a forged line: {line!r}"
                assert not UNPRINTABLE.search(line), f"a terminal would obey this line: {line!r}"

    def stop(self) -> None:
        """Stop the workers, and check that they end normally and leave nothing behind."""
        for worker in self.workers:
            worker.send(signal.SIGTERM)
        for worker in self.workers:
            assert worker.exit_code() == 0
        self.workers.clear()
        assert snapshot(self.root, self._logs) == self._before
        assert not self.redis.keys("worker:*")

    def retry(self, letter: DeadLetter) -> None:
        assert DeadLetters(self.redis, self.scratch).retry(letter)

    def wait_letters(self, count: int) -> None:
        wait_until(lambda: self.redis.llen(FAILED) == count, f"{count} dead letters")

    def forget_letters(self) -> None:
        self.redis.delete(FAILED)

    def kill(self) -> None:
        for worker in self.workers:
            worker.__exit__()


@contextmanager
def besieged(root: Path, services: Services) -> Iterator[Siege]:
    """A siege with its own database, bucket and empty Redis. Workers that still run are killed at the end."""
    database = fresh_database(services, "siege")
    name = f"siege-{secrets.token_hex(4)}"
    services.make_bucket(name)
    client = redis.Redis(services.redis_host, services.redis_port, REDIS_DB, services.redis_password)
    client.flushdb()
    env = services.environ(database=database.name, bucket=name, redis_db=REDIS_DB)
    siege = Siege(root, env, client, database.admin_dsn)
    try:
        yield siege
    finally:
        siege.kill()
        client.close()
        services.drop_database(database.name)
