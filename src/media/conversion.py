"""Many clips to Opus at the same time, each in a process that may hang or die without harm to the others.

The processes are forked by a fork server, not by the caller: a fork of a process with threads can deadlock, and a fresh
interpreter per process would import everything again. What holds for each of them:

- it has SIGTERM and SIGINT blocked from its first instant, so that a Ctrl-C in the terminal or a signal to the whole
  control group reaches the parent only, which then decides;
- it dies with its parent: the fork server ends when the parent's end of its pipe closes, and the kernel kills the
  fork server's children with it, even one that hangs inside a decoder;
- it has a memory limit, and is replaced after a number of clips, which bounds leaks of the libraries;
- it finds the locks of its pool also when it starts while the pool ends, so that no traceback about a missing one gets
  into the log.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing.context
import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from pebble import CONSTS, ProcessExpired, ProcessPool

from errors import AudioError, OperatorError, PipelineError, RetryableError
from media.audio import AudioInfo, ConvertedClip, convert_to_opus, probe

CLIPS_PER_PROCESS = 100  # then a fresh one; a fork takes some 10 ms
MEMORY_LIMIT_BYTES = 2 << 30  # a clip may take so much on top of the process; a conversion needs well under 0.2 GB
POLL_S = 0.2  # how soon a request to stop is seen
_PR_SET_PDEATHSIG = 1  # prctl(2)

# Pebble sends SIGTERM, waits so long, then SIGKILL. Ours have SIGTERM blocked, so waiting is in vain.
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

    `processes` work at the same time, 0 for one per core. A conversion that takes longer than `clip_timeout_s` seconds
    is killed. `should_stop` is asked every 0.2 s; once it answers True, running conversions are killed and the
    iteration ends: clips that were not yielded have not been judged. `convert` is what to do with one clip; it must be
    importable by name and is called as `convert_to_opus` is.

    The outcome is an AudioError for a clip that cannot be converted, is longer than `max_clip_s` seconds, hangs, or
    kills its process; a RetryableError when its process was stopped from outside; an OperatorError when the disk or the
    machine is to blame.
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
    """Probe every file as `convert_all` converts clips: a header, too, may hang or kill the process that reads it."""
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
        schedule(2 * workers)  # one in work and one at hand per process
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
    """The result of a piece of work, or the PipelineError that stands for its failure."""
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
    """Judge the end of a process, by its exit status or minus the signal that ended it."""
    if -code in {signal.SIGTERM, signal.SIGINT}:
        return RetryableError(f"the conversion of {name} was stopped from outside")
    how = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with status {code}"
    return AudioError(f"{name} makes the decoder end {how}")


class _PoolContext(multiprocessing.context.ForkServerContext):
    """Keeps the locks of a pool until its processes are gone.

    Pebble lets go of them before it ends the processes. A lock is a named semaphore whose name goes with the last
    reference to it here; a process that is just starting would look for the name in vain and print a traceback.
    """

    def __init__(self) -> None:
        self.locks: list[Any] = []

    def RLock(self) -> Any:  # noqa: N802  multiprocessing's name
        lock = super().RLock()
        self.locks.append(lock)
        return lock


def _fork_server() -> _PoolContext:
    """The context whose processes come from the fork server, which is started here the first time."""
    context = _PoolContext()
    context.set_forkserver_preload(["__main__", "media.conversion"])
    # The server inherits the mask across exec, and its children inherit it from the server. The resource tracker that
    # the server starts first would unblock these signals again, so it comes before.
    resource_tracker.ensure_running()
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    return context


def _settle_in_child() -> None:
    # Each child gets a copy of the pipe that keeps the fork server alive, so that it could fork in turn. A child that
    # hangs would thus keep the server alive, and the server the child.
    alive = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_alive_fd", None)
    if isinstance(alive, int):
        os.close(alive)
    with contextlib.suppress(OSError, AttributeError):  # a system without prctl: pipes still end idle children
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The limit is on address space, of which numpy's threads reserve some per core, so it counts from what is there.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_LIMIT_BYTES, taken + MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
