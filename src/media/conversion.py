"""Convert many clips to Opus at the same time. Each runs in a process that may hang or crash without harm to others.

A fork server forks the processes, not the caller: a fork of a process with threads can deadlock, and a new interpreter
per process would import everything again. Each process has these properties:

- SIGTERM and SIGINT are blocked from the start. So a Ctrl-C in the terminal or a signal to the whole control group
  reaches only the parent, which decides what to do.
- It ends with its parent. The fork server ends when the parent's end of its pipe closes, and the kernel then kills the
  server's children, also one that hangs inside a decoder.
- It has a memory limit, and is replaced after a number of clips. This limits memory leaks of the libraries.
- It finds the locks of its pool even if it starts while the pool ends. Otherwise it would log a traceback about a
  missing lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing.context
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from pebble import CONSTS, ProcessExpired, ProcessPool

from errors import AudioError, OperatorError, PipelineError, RetryableError
from media.audio import AudioInfo, ConvertedClip, convert_to_opus, probe

CLIPS_PER_PROCESS = 100  # then a new process replaces it; a fork takes about 10 ms
MEMORY_LIMIT_BYTES = 2 << 30  # for one clip, besides the process's own memory; a conversion needs less than 0.2 GB
POLL_S = 0.2  # pause between two checks of `should_stop`
_PR_SET_PDEATHSIG = 1  # prctl(2)

# Pebble sends SIGTERM, waits this long, then sends SIGKILL. Our processes block SIGTERM, so waiting is useless.
CONSTS.term_timeout = 0.05

Job = tuple[Path, Path]
Outcome = ConvertedClip | PipelineError
Result = TypeVar("Result")


def convert_all(
    jobs: Sequence[Job],
    *,
    processes: int,
    clip_timeout_s: float,
    max_clip_s: float,
    should_stop: Callable[[], bool] = lambda: False,
    convert: Callable[..., ConvertedClip] = convert_to_opus,
) -> Iterator[tuple[int, Outcome]]:
    """Convert every (source, target) and yield (index in `jobs`, outcome) in the order of completion.

    `processes` is the number of processes; 0 means one per core. A conversion that takes longer than `clip_timeout_s`
    seconds is killed. `should_stop` is called every 0.2 s. When it returns True, running conversions are killed and the
    iteration ends; clips that were not yielded have no outcome. `convert` converts one clip; it must be importable by
    name, and is called with the arguments of `convert_to_opus`.

    The outcome is an AudioError for a clip that cannot be converted, is longer than `max_clip_s` seconds, hangs, or
    kills its process; a RetryableError when something outside stopped its process; an OperatorError when the disk or
    the machine causes the failure.
    """
    work = functools.partial(convert, max_clip_s=max_clip_s)
    return _in_processes(work, jobs, processes=processes, clip_timeout_s=clip_timeout_s, should_stop=should_stop)


def probe_all(
    files: Sequence[Path],
    *,
    processes: int,
    clip_timeout_s: float,
    should_stop: Callable[[], bool] = lambda: False,
    look: Callable[[Path], AudioInfo] = probe,
) -> Iterator[tuple[int, AudioInfo | PipelineError]]:
    """Probe every file in processes like those of `convert_all`, because a header may also hang or kill its process."""
    jobs = [(path,) for path in files]
    return _in_processes(look, jobs, processes=processes, clip_timeout_s=clip_timeout_s, should_stop=should_stop)


def _in_processes(
    work: Callable[..., Result],
    jobs: Sequence[tuple[Path, ...]],
    *,
    processes: int,
    clip_timeout_s: float,
    should_stop: Callable[[], bool],
) -> Iterator[tuple[int, Result | PipelineError]]:
    if not jobs:
        return
    workers = min(processes or len(os.sched_getaffinity(0)), len(jobs))
    context = _fork_server()
    pool = ProcessPool(max_workers=workers, max_tasks=CLIPS_PER_PROCESS, initializer=_settle_in_child, context=context)
    waiting = iter(enumerate(jobs))
    running: dict[Any, int] = {}

    def schedule(count: int) -> None:
        for index, paths in (item for _, item in zip(range(count), waiting, strict=False)):
            running[pool.schedule(work, paths, timeout=clip_timeout_s)] = index

    try:
        schedule(2 * workers)  # per process, one that runs and one that waits
        while running and not should_stop():
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for task in done:
                index = running.pop(task)
                yield index, _outcome(task, jobs[index][0], clip_timeout_s)
            schedule(len(done))
    finally:
        pool.stop()
        pool.join()
        context.locks.clear()


def _outcome(task: Any, source: Path, clip_timeout_s: float) -> Any:
    """The result of a task, or a PipelineError that describes its failure."""
    name = repr(source.name)
    outcome: Any
    try:
        outcome = task.result()
    except PipelineError as error:
        outcome = error
    except TimeoutError:
        outcome = AudioError(f"{name} takes longer than {clip_timeout_s:g} s to convert (CLIP_TIMEOUT_S)")
    except MemoryError:
        outcome = AudioError(f"{name} needs more than {MEMORY_LIMIT_BYTES >> 30} GB of memory to convert")
    except ProcessExpired as error:
        outcome = _expired(name, error.exitcode or 0)
    except (BrokenProcessPool, OSError) as error:
        outcome = OperatorError(f"no process can be started to convert clips: {error}; check memory and process limits")
    return outcome


def _expired(name: str, code: int) -> PipelineError:
    """The error for a process that ended. `code` is its exit status, or minus the signal that ended it."""
    if -code in {signal.SIGTERM, signal.SIGINT}:
        return RetryableError(f"the conversion of {name} was stopped from outside")
    how = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with status {code}"
    return AudioError(f"{name} makes the decoder end {how}")


class _PoolContext(multiprocessing.context.ForkServerContext):
    """Keeps the locks of a pool until its processes are gone.

    Pebble drops its references to the locks before it ends the processes. A lock is a named semaphore, and its name is
    removed with the last reference in this process. A process that is starting would then not find the name and would
    print a traceback.
    """

    def __init__(self) -> None:
        self.locks: list[Any] = []

    def RLock(self) -> Any:  # noqa: N802  multiprocessing's name
        lock = super().RLock()
        self.locks.append(lock)
        return lock


def _fork_server() -> _PoolContext:
    """A context whose processes the fork server forks. The first call starts the fork server."""
    context = _PoolContext()
    context.set_forkserver_preload(["__main__", "media.conversion"])
    # The server inherits the signal mask across exec, and its children inherit it from the server. The server would
    # first start the resource tracker, which unblocks these signals, so the tracker is started before.
    resource_tracker.ensure_running()
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        forkserver.ensure_running()
    except OSError as error:  # its socket lies in the directory for temporary files
        raise OperatorError(
            f"the processes that convert clips cannot be started ({error}); check the directory for temporary files,"
            f" {tempfile.gettempdir()} (TMPDIR): its path must be short, and this user must be able to write there"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    return context


def _settle_in_child() -> None:
    # Each child inherits the pipe that keeps the fork server alive. If a child that hangs kept the pipe open, the
    # server would not end, and so the child would not be killed.
    alive = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_alive_fd", None)
    if isinstance(alive, int):
        os.close(alive)
    with contextlib.suppress(OSError, AttributeError):  # a system without prctl: pipes still end idle children
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The limit applies to address space. numpy's threads already reserve some per core, so the limit is added to it.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_LIMIT_BYTES, taken + MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
