"""Archive to verdicts: the workers of this tree against those of an earlier commit, on the same archive.

    PYTHONPATH=src:. python -m bench.worker [--clips N] [--rounds N] [--commit 596228d]

Each round starts the unpack worker and the GPU worker of one tree with the demo's models, waits until the models are
loaded, puts the archive into S3 and its job into Redis, and ends when Postgres has the batch as complete. The trees
take turns. All services are real; each round has a database and a bucket of its own, with the schema of its tree, so
that no result is known before. Counted is the work from the job to the completion, not the loading of the models.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import redis
from botocore.config import Config
from psycopg2 import sql

from bench import words
from bench.clips import Clip, chosen, digest, load_clips
from bench.clips import write as write_wav
from bench.meter import session_cpu_seconds
from bench.packages import DataError
from bench.report import ROOT, Table, number, print_table, share, write_json
from local.services import Services
from local.services.postgres import ADMIN

EARLIER = "596228d"
HOST = "bench-host"
START_S = 600.0  # loading the models on a busy machine
BATCH_S = 4 * 3600.0
STOP_S = 90.0
RESULTS = """
    SELECT a.original_filename, a.status, coalesce(t.text, ''),
           (SELECT count(*) FROM classifications c WHERE c.audio_id = a.audio_id AND c.violates)
    FROM audio_files a LEFT JOIN transcripts t USING (audio_id)
"""


class WorkerError(Exception):
    """A worker did not do its work. The message has the end of its log."""


@dataclass
class Round:
    """What one tree took for the archive, and what it wrote."""

    tree: str
    wall_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)  # by program
    texts: dict[str, str] = field(default_factory=dict)  # by clip
    failed: int = 0
    flagged: int = 0

    @property
    def total_cpu_s(self) -> float:
        return sum(self.cpu_s.values())


class Program:
    """One worker of a tree, as systemd starts it: a process that leads a session of its own."""

    def __init__(self, kind: str, tree: Path, env: dict[str, str], log: Path) -> None:
        self.kind, self.log = kind, log
        path = os.pathsep.join([str(tree / "src"), str(tree)])
        base = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": path}
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"workers.{kind}_worker"],
                cwd=tree / "src", env={**base, **env}, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    @property
    def cpu_s(self) -> float:
        return session_cpu_seconds(self._process.pid)

    def check(self) -> None:
        if self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-15:]
            raise WorkerError("\n".join([f"the {self.kind} worker ended; its log ends with:", *lines]))

    def stop(self) -> None:
        """Ask it to end; end it and what it has started if it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def main() -> int:
    arguments = _arguments()
    try:
        clips = chosen([clip for clip in load_clips(timed=True) if clip.timed], arguments.clips)
        with tempfile.TemporaryDirectory(prefix="bench-worker-") as folder:
            root = Path(folder)
            archive = write_archive(clips, root)
            trees = {"earlier": export(arguments.commit, root / "earlier"), "this tree": ROOT}
            with Services(root / "services", durable=False) as services:
                rounds = race(trees, arguments.rounds, archive, services, root)
    except (DataError, WorkerError) as error:
        print(error, file=sys.stderr)
        return 1
    tables = [time_table(rounds, len(clips), arguments.commit), words_table(rounds, clips)]
    for table in tables:
        print_table(table)
    figures = {
        "commit": arguments.commit, "clips": len(clips), "audio_s": sum(clip.duration_s for clip in clips),
        "fingerprint": digest(clips), "rounds": [asdict(item) for item in rounds],
        "tables": [[table.title, list(table.columns), [list(row) for row in table.rows]] for table in tables],
    }  # fmt: skip
    write_json("worker", figures, arguments.json)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, help="only so many, evenly from all kinds")
    parser.add_argument("--rounds", type=int, default=2, help="how often each tree processes the archive (default: 2)")
    parser.add_argument("--commit", default=EARLIER, help=f"the earlier tree (default: {EARLIER})")
    parser.add_argument("--json", type=Path, help="where the figures go (default: bench/.results/worker.json)")
    return parser.parse_args()


def write_archive(clips: Sequence[Clip], root: Path) -> Path:
    """A tar of the clips as WAV files."""
    write_wav(clips, root / "clips")
    archive = root / "clips.tar"
    with tarfile.open(archive, "w") as tar:
        for clip in clips:
            tar.add(root / "clips" / f"{clip.name}.wav", f"{clip.name}.wav")
    return archive


def export(commit: str, target: Path) -> Path:
    """Write the files of a commit into a folder.

    Raises
    ------
    WorkerError
        This checkout does not have the commit.
    """
    target.mkdir()
    packed = target.with_suffix(".tar")
    done = subprocess.run(
        ["git", "archive", "--format=tar", "--output", str(packed), commit], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise WorkerError(
            f"the commit {commit} is not in this checkout ({done.stderr.strip()}); fetch its history, or name another"
            " one with --commit"
        )
    with tarfile.open(packed) as tar:
        tar.extractall(target, filter="data")
    return target


def race(trees: dict[str, Path], rounds: int, archive: Path, services: Services, root: Path) -> list[Round]:
    """Let the trees process the archive in turn."""
    found: list[Round] = []
    for turn in range(rounds):
        names = list(trees) if turn % 2 == 0 else list(reversed(trees))
        for name in names:
            found.append(one_round(name, trees[name], archive, services, root / f"round-{len(found)}"))
            took = found[-1]
            print(f"{name}: {took.total_cpu_s:.0f} CPU s, {took.wall_s:.0f} s", file=sys.stderr)
    return found


def one_round(name: str, tree: Path, archive: Path, services: Services, root: Path) -> Round:
    """Start the workers of a tree, give them the archive, and wait until the batch is complete."""
    database, dsn, bucket = _fresh_stores(tree, services)
    (root / "scratch").mkdir(parents=True)
    env = {
        **services.environ(database=database, bucket=bucket, redis_db=1),
        "SCRATCH_ROOT": str(root / "scratch"),
        "MODELS_ROOT": os.environ.get("MODELS_ROOT") or str(ROOT / "models"),
        "MODEL_SET": "demo",
        "DEVICE": "cpu",
        "WORKER_HOST": HOST,
    }
    client = redis.Redis(services.redis_host, services.redis_port, 1, services.redis_password)
    client.flushdb()
    with _running(tree, env, root) as programs:
        _wait(programs, lambda: "models loaded" in programs[-1].log.read_text(errors="replace"), START_S, "the models")
        before = {program.kind: program.cpu_s for program in programs}
        began = time.monotonic()
        batch_id = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)
        key = f"archives/{batch_id}.tar"
        _store(services).upload_file(str(archive), bucket, key)
        client.rpush("queue:unpack", json.dumps({"batch_id": batch_id, "s3_key": key}))
        _wait(programs, lambda: _complete(dsn), BATCH_S, "the batch")
        result = Round(name, wall_s=time.monotonic() - began)
        result.cpu_s = {program.kind: program.cpu_s - before[program.kind] for program in programs}
    for file, status, text, flagged in _query(dsn, RESULTS):
        result.texts[Path(file).stem] = text
        result.failed += status == "failed"
        result.flagged += flagged
    client.close()
    services.drop_bucket(bucket)
    services.drop_database(database)
    return result


def _fresh_stores(tree: Path, services: Services) -> tuple[str, str, str]:
    """A database with the schema of the tree, its address, and a bucket."""
    name = f"bench_{secrets.token_hex(4)}"
    if tree == ROOT:
        services.make_database(name)
    else:
        services.make_database()  # gives the roles, which are the same in all databases, their passwords
        connection = services.postgres.admin()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        finally:
            connection.close()
        # Earlier schemas do not name the place of their tables.
        services.postgres.psql(name, tree / "schema.sql", search_path="public")
    bucket = name.replace("_", "-")
    services.make_bucket(bucket)
    return name, services.postgres.dsn(ADMIN, name), bucket


@contextmanager
def _running(tree: Path, env: dict[str, str], root: Path) -> Iterator[list[Program]]:
    programs: list[Program] = []
    try:
        for kind in ("unpack", "gpu"):
            programs.append(Program(kind, tree, env, root / f"{kind}.log"))  # noqa: PERF401 -- the second may fail
        yield programs
    finally:
        for program in programs:
            program.stop()


def _wait(programs: Sequence[Program], ready: Any, within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not ready():
        for program in programs:
            program.check()
        if time.monotonic() > deadline:
            raise WorkerError(f"waited {within_s:.0f} s in vain for {what}")
        time.sleep(0.1)


def _complete(dsn: str) -> bool:
    [(open_, closed)] = _query(
        dsn, "SELECT count(*) FILTER (WHERE completed_at IS NULL), count(completed_at) FROM batches"
    )
    return bool(closed and not open_)


def _query(dsn: str, command: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(command)
            return cursor.fetchall()
    finally:
        connection.close()


def _store(services: Services) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=services.s3_endpoint,
        aws_access_key_id=services.s3_access_key,
        aws_secret_access_key=services.s3_secret_key,
        region_name="us-east-1",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def time_table(rounds: Sequence[Round], clips: int, commit: str) -> Table:
    """CPU and wall seconds of each tree, the mean of its rounds, and how many times this tree's each needs."""
    names = list(dict.fromkeys(item.tree for item in rounds))
    cpu = {name: _mean([item.total_cpu_s for item in rounds if item.tree == name]) for name in names}
    wall = {name: _mean([item.wall_s for item in rounds if item.tree == name]) for name in names}
    rows = []
    for name in names:
        own = [item for item in rounds if item.tree == name]
        parts = [number(_mean([item.cpu_s[kind] for item in own]), 1) for kind in ("unpack", "gpu")]
        spread = f"{min(item.total_cpu_s for item in own):.1f} to {max(item.total_cpu_s for item in own):.1f}"
        rows.append(
            [
                commit if name == "earlier" else name, len(own), *parts, number(cpu[name], 1), spread,
                number(wall[name], 1), number(cpu[name] / cpu["this tree"]), number(wall[name] / wall["this tree"]),
            ]
        )  # fmt: skip
    columns = [
        "workers", "rounds", "unpack CPU s", "gpu CPU s", "CPU s", "lowest to highest", "wall s", "CPU ratio",
        "wall ratio",
    ]  # fmt: skip
    return Table(f"Archive to verdicts, {clips} clips", columns, rows)


def words_table(rounds: Sequence[Round], clips: Sequence[Clip]) -> Table:
    """What each tree wrote in its first round: words kept and word error rate, text without speech, verdicts."""
    rows = []
    for name in dict.fromkeys(item.tree for item in rounds):
        first = next(item for item in rounds if item.tree == name)
        counts = {
            kind: words.total(
                words.count(clip.text, first.texts.get(clip.name, ""), clip.language)
                for clip in clips
                if clip.spoken and (kind == "all" or clip.kind in kind)
            )
            for kind in ("all", "plain", "fast, fast-high", "repeated")
        }
        silent = [clip for clip in clips if not clip.spoken]
        invented = sum(bool(first.texts.get(clip.name, "").strip()) for clip in silent)
        cells = [f"{share(item.kept_share)}, {share(item.error_rate)}" for item in counts.values()]
        rows.append([name, *cells, f"{invented} of {len(silent)}", first.flagged, first.failed])
    columns = [
        "workers", "all: kept, WER", "plain", "sped up", "repeated", "text without speech", "violations", "failed",
    ]  # fmt: skip
    return Table("Words kept and word error rate", columns, rows)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
