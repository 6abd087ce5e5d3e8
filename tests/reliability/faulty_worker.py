"""A real worker with a fault after one of its steps.

    FAULT_AT=7 FAULT=kill FAULT_LOG=/path python -m tests.reliability.faulty_worker unpack

A step is a call that changes or reads something outside the process: Redis, Postgres, S3, the ssh host, scratch. Each
that returns is counted and logged with its name. After the one with the number FAULT_AT the process kills itself
(FAULT=kill), or kills Redis and goes on (FAULT=redis, with the server's process id in FAULT_PID). FAULT_AT=0: only log.
A poll that finds nothing is not a step, because its number differs in each run.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import db
import s3_utils
from archives.sources import ssh as remote_archives
from jobs import batches, job_queue
from recovery import reconcile
from scratch import directories as scratch
from tests.reliability.stub_gpu_worker import StubGpuWorker
from workers import base, transfer_worker, unpack_worker

_lock = threading.Lock()
_count = 0


def reached(name: str) -> None:
    """Count a step that has just returned, and cause the fault if it is the chosen step."""
    global _count  # noqa: PLW0603 -- one process, one count
    with _lock:
        _count += 1
        number = _count
    with Path(os.environ["FAULT_LOG"]).open("a") as log:
        log.write(f"{number} {name}\n")
    if number != int(os.environ["FAULT_AT"]):
        return
    if os.environ["FAULT"] == "kill":
        os.killpg(0, signal.SIGKILL)
    os.kill(int(os.environ["FAULT_PID"]), signal.SIGKILL)


def counted(owner: Any, name: str, *, only_if: Callable[[Any], object] = lambda _: True) -> None:
    """Wrap `owner.name`, so that each call counts as a step."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*arguments: Any, **named: Any) -> Any:
        answer = original(*arguments, **named)
        if only_if(answer):
            reached(f"{getattr(owner, '__name__', owner)}.{name}")
        return answer

    setattr(owner, name, call)


def count_steps() -> None:
    counted(job_queue.JobQueue, "claim", only_if=lambda claim: claim is not None)
    for name in ("settle", "hand_back", "retry_later"):
        counted(job_queue.JobQueue, name)
    for name in ("start", "clear"):
        counted(batches.Batches, name)
    for name in ("begin_unpack", "done_clips", "record_unpacked", "ensure_clip", "has_results", "save_results"):
        counted(db.Database, name)
    counted(db.Database, "finish_batch", only_if=lambda finished: finished is not None)
    for name in ("download", "upload", "upload_opus", "upload_archive"):
        counted(s3_utils.ObjectStore, name)
    counted(remote_archives.ArchiveHost, "fetch")
    counted(transfer_worker.TransferWorker, "_push")
    counted(transfer_worker, "_remove")
    counted(reconcile.Reconciler, "at_start")
    counted(scratch, "empty")
    counted(scratch, "remove", only_if=bool)
    counted(unpack_worker, "extract")
    counted(unpack_worker.UnpackWorker, "_convert")
    counted(scratch, "remove_tree")


WORKERS: dict[str, Any] = {
    "transfer": transfer_worker.TransferWorker,
    "unpack": unpack_worker.UnpackWorker,
    "gpu": StubGpuWorker,
}

if __name__ == "__main__":
    count_steps()
    base.main(WORKERS[os.environ.get("FAULT_KIND", sys.argv[-1])])
