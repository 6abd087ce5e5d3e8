"""A whole pipeline for tests with faults: services, worker processes as systemd runs them, and the check at the end."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import boto3
import psycopg2
import redis
from botocore.config import Config

from jobs.job_queue import ATTEMPTS, FAILED, INTERRUPTIONS
from local.services import Services
from tests.databases import fresh_database
from tests.reliability.stub_gpu_worker import is_flagged, spoken
from tests.reliability.tones import clip_name, is_broken, pitch, write_archive

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "transfer": "workers.transfer_worker",
    "unpack": "workers.unpack_worker",
    "gpu": "tests.reliability.stub_gpu_worker",
}
# What may stand in Redis when nothing is left to do.
LASTING = {"hosts:seen", "lease:reap", "lease:reconcile", "pipeline:memory", "transfer:taken", FAILED}
# Postgres itself notes each completion, in the order in which they were committed: which run of unpack had begun last,
# and how many clips had no outcome then. A worker's log line may be missing (killed) and its time tells no order.
COMPLETIONS = """
    CREATE TABLE completions (id bigint GENERATED ALWAYS AS IDENTITY, batch_id text, run integer, pending integer);
    CREATE FUNCTION note_completion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        INSERT INTO completions (batch_id, run, pending) SELECT NEW.batch_id, NEW.unpack_run, count(*)
        FROM audio_files WHERE batch_id = NEW.batch_id AND status = 'pending';
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_completion AFTER UPDATE OF completed_at ON batches FOR EACH ROW
    WHEN (OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL) EXECUTE FUNCTION note_completion();
"""


class WorkerProcess:
    """One worker. The test that kills it starts it again, as systemd would."""

    def __init__(self, kind: str, env: dict[str, str], log: Path, module: str | None = None) -> None:
        self.kind = kind
        self.log = log
        self._env = env
        self._module = module or MODULES[kind]
        self.stopped = False
        self.start()

    def start(self) -> None:
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                cwd=ROOT / "src",
                env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": path, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        if self.running:
            (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, within_s: float = 60) -> int:
        return self._process.wait(within_s)

    def kill(self) -> None:
        self.signal(signal.SIGKILL, group=True)
        self.wait()


@dataclass
class Accounts:
    """The result of the check at the end. A run is good when `problems` is empty."""

    clips: int = 0
    done: int = 0
    failed: int = 0
    lost: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)


class World:
    def __init__(self, root: Path, services: Services, *, ttl_s: float, **more: str) -> None:
        self.root = root
        self.services = services
        self.database = fresh_database(services, "reliability")
        self.query(COMPLETIONS)
        self.bucket = f"reliability-{secrets.token_hex(4)}"
        services.make_bucket(self.bucket)
        self.redis = redis.Redis(
            services.redis_host,
            services.redis_port,
            int(more.get("REDIS_DB", "1")),
            services.redis_password,
            socket_timeout=30,
        )
        self.redis.flushdb()
        self.scratch, self.logs = root / "scratch", root / "logs"
        for folder in (self.scratch, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.env = {
            **services.environ(database=self.database.name, bucket=self.bucket, redis_db=1),
            "SCRATCH_ROOT": str(self.scratch),
            "MODELS_ROOT": str(root),
            "WORKER_HOST": "host-1",
            "HEARTBEAT_TTL_S": str(ttl_s),
            "RETRY_BASE_S": "0.2",
            "CONVERT_PROCESSES": "2",
            "TRANSFER_POLL_S": "0.5",
            "TRANSFER_SETTLE_S": "0.5",
            **more,
        }

    def worker(self, kind: str, number: int = 0, module: str | None = None, **more: str) -> WorkerProcess:
        staging = self.root / f"staging-{number}"
        env = {**self.env, "TRANSFER_STAGING": str(staging), **more}
        return WorkerProcess(kind, env, self.logs / f"{kind}-{number}.log", module)

    def query(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.database.admin_dsn)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql, arguments)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def store(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.services.s3_endpoint,
            aws_access_key_id=self.services.s3_access_key,
            aws_secret_access_key=self.services.s3_secret_key,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def inject(self, batch_id: str, clips: int | Sequence[int]) -> None:
        """Put an archive into S3 and its job into the queue, as an operator does."""
        path = self.root / f"{batch_id}.tar"
        write_archive(path, clips)
        key = f"archives/{batch_id}.tar"
        self.store().upload_file(str(path), self.bucket, key)
        path.unlink()
        self.redis.rpush("queue:unpack", json.dumps({"batch_id": batch_id, "s3_key": key}))

    def complete(self) -> dict[str, bool]:
        return dict(self.query("SELECT batch_id, completed_at IS NOT NULL FROM batches"))

    def busy(self) -> list[str]:
        """The work and the cleaning up that remain."""
        patterns = ("queue:unpack", "queue:transcribe*", "queue:delayed", "inflight:*", "batch*")
        keys = [key.decode() for pattern in patterns for key in cast("list[bytes]", self.redis.keys(pattern))]
        return keys + [str(path) for path in (*self.scratch.iterdir(), *self.root.glob("staging-*/*"))]

    def close(self) -> None:
        """Delete the data; the logs stay."""
        self.redis.close()
        self.services.drop_bucket(self.bucket)
        self.services.drop_database(self.database.name)

    def accounts(self, clips_by_batch: Mapping[str, int | Sequence[int]], *, again: Collection[str] = ()) -> Accounts:
        """Compare the database, S3, Redis and scratch with the archives that were put in.

        An operator has started the batches in `again` again: they may complete more than once, but once in each run.
        """
        numbers = {batch: range(clips) if isinstance(clips, int) else clips for batch, clips in clips_by_batch.items()}
        found = Accounts(clips=sum(map(len, numbers.values())))
        for batch_id, clips in numbers.items():
            self._batch(batch_id, clips, found)
        self._keys(found)
        self._letters(numbers, found)
        left = [str(path.relative_to(self.root)) for path in (*self.scratch.iterdir(), *self.root.glob("staging-*/*"))]
        if left:
            found.problems.append(f"left on disk: {left[:5]}")
        self._completions(numbers, again, found)
        return found

    def _batch(self, batch_id: str, clips: Sequence[int], found: Accounts) -> None:
        rows = self.query(
            """
            SELECT a.original_filename, a.status, a.s3_opus_path, t.text,
                   (SELECT count(*) FROM transcripts x WHERE x.audio_id = a.audio_id),
                   (SELECT count(*) FROM classifications c WHERE c.audio_id = a.audio_id),
                   (SELECT bool_and(violates) FROM classifications c WHERE c.audio_id = a.audio_id)
            FROM audio_files a LEFT JOIN transcripts t USING (audio_id) WHERE a.batch_id = %s
            """,
            batch_id,
        )
        expected = {clip_name(number): number for number in clips}
        found.doubled += len(rows) - len({row[0] for row in rows})
        policies = len(list((ROOT / "policies").glob("*.md")))
        seen = set()
        for name, status, path, text, transcripts, verdicts, flagged in rows:
            seen.add(name)
            number = expected.get(name)
            tone = pitch(number) if number is not None else 0
            if number is None:
                found.problems.append(f"{batch_id}: {name} was not in the archive")
            elif is_broken(number):
                found.failed += status == "failed"
                wanted: tuple[Any, ...] = ("failed", None, None, 0, 0, None)
            elif not tone:
                found.done += status == "no_speech"
                wanted = ("no_speech", path or "a path", "", 1, 0, None)
            else:
                found.done += status == "done"
                wanted = ("done", path or "a path", spoken(tone), 1, policies, is_flagged(tone))
            if number is not None and (status, path, text, transcripts, verdicts, flagged) != wanted:
                found.problems.append(f"{batch_id}/{name}: {(status, path, text, transcripts, verdicts, flagged)}")
        found.lost += len(expected.keys() - seen) + sum(row[1] == "pending" for row in rows)
        [counts] = self.query(
            "SELECT total, processed, failed, completed_at FROM batches WHERE batch_id = %s", batch_id
        )
        broken = sum(map(is_broken, clips))
        if counts[:3] != (len(clips), len(clips) - broken, broken) or counts[3] is None:
            found.problems.append(f"{batch_id}: total, processed, failed, completed_at are {counts}")

    def _keys(self, found: Accounts) -> None:
        keys = {key.decode() for key in cast("list[bytes]", self.redis.keys("*"))} - LASTING
        keys = {key for key in keys if not key.startswith("worker:")}
        if keys:
            found.problems.append(f"left in Redis: {sorted(keys)[:10]}")
        for counts in (ATTEMPTS, INTERRUPTIONS):
            if self.redis.hlen(counts):
                found.problems.append(f"{counts} is not empty: {self.redis.hgetall(counts)}")

    def _letters(self, clips_by_batch: Mapping[str, Sequence[int]], found: Accounts) -> None:
        letters = [json.loads(raw) for raw in cast("list[bytes]", self.redis.lrange(FAILED, 0, -1))]
        for letter in letters:
            if len(letter["error"].split()) < 3 or not (letter.get("payload") or letter.get("payload_base64")):
                found.problems.append(f"a dead letter without reason or payload: {letter}")
        named = Counter((letter["batch_id"], letter["clip"]) for letter in letters)
        wanted = Counter(
            (batch_id, clip_name(number))
            for batch_id, clips in clips_by_batch.items()
            for number in clips
            if is_broken(number)
        )
        if named != wanted:
            found.problems.append(f"dead letters: missing {wanted - named}, too many {named - wanted}")

    def _completions(
        self, clips_by_batch: Mapping[str, Sequence[int]], again: Collection[str], found: Accounts
    ) -> None:
        """Check that each run of unpack completed at most once, when every clip had its outcome."""
        for batch_id in clips_by_batch:
            noted = self.query("SELECT run, pending FROM completions WHERE batch_id = %s ORDER BY id", batch_id)
            runs = [run for run, _ in noted]
            if len(runs) > (len(set(runs)) if batch_id in again else 1):
                found.doubled += 1
                found.problems.append(f"{batch_id} completed {len(runs)} times, in runs {runs}")
            if any(pending for _, pending in noted):
                found.problems.append(f"{batch_id} completed with clips that had no outcome (run, clips): {noted}")
