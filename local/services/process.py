"""Starts, watches and stops one server process. The server never runs longer than the program that has started it.

Three mechanisms stop it, in this order: `stop()`; the kernel's parent-death signal (Linux, through `setpriv`); and at
the next start the pid file, which names the process by pid and start time, so another process with this pid is safe.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

POLL_S = 0.02
STOP_TIMEOUT_S = 15.0  # then SIGKILL
LOG_TAIL_LINES = 15


class ServiceError(RuntimeError):
    """A service cannot run. The message names the service and the reason, and shows the end of its log."""


_orders: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]]
_orders = queue.SimpleQueue()
_spawner_lock = threading.Lock()
_spawner: threading.Thread | None = None


def _serve_orders() -> None:
    while True:
        order, answer = _orders.get()
        try:
            answer.set_result(order())
        except OSError as error:
            answer.set_exception(error)


def _spawn(order: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Run `order` in a thread that lives as long as this program.

    The parent-death signal comes when the *thread* that started a process ends, and services start in a thread pool.
    """
    global _spawner  # noqa: PLW0603 - one such thread per program, made when it is first wanted
    with _spawner_lock:
        if _spawner is None:
            _spawner = threading.Thread(target=_serve_orders, name="process-spawner", daemon=True)
            _spawner.start()
    answer: Future[subprocess.Popen[bytes]] = Future()
    _orders.put((order, answer))
    return answer.result()


def started_at(pid: int) -> str | None:
    """Return the start time of process `pid`, only for comparison, or None if the process does not exist."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else fields[19]
    shown = subprocess.run(["ps", "-p", str(pid), "-o", "lstart="], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a log, indented, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return "  (no log)"
    kept = text.rstrip().splitlines()[-lines:]
    return "\n".join(f"  {line}" for line in kept) or "  (the log is empty)"


@dataclass
class ServerProcess:
    """One server process in its own session (process group)."""

    name: str
    command: Sequence[str | Path]
    log: Path
    pidfile: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    privileges: Sequence[str] = ()  # more arguments of setpriv, to run as another user
    popen: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _asked: bool = field(
        default=False, init=False
    )  # whether it was asked to stop; for some servers a second signal means "at once"

    def start(self) -> None:
        """Start the server. It may not be ready yet when this returns."""
        self.reap()
        self._asked = False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.pidfile.parent.mkdir(parents=True, exist_ok=True)
        command = [*_setpriv(self.stop_signal, self.privileges), *(str(part) for part in self.command)]

        def order() -> subprocess.Popen[bytes]:
            # Opened inside this function: the calling thread may be interrupted and would close the log too early.
            with self.log.open("ab") as log:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=None if self.env is None else dict(self.env),
                    cwd=self.cwd,
                    start_new_session=True,
                )

        self.popen = _spawn(order)
        identity = {"pid": self.popen.pid, "started": started_at(self.popen.pid), "name": self.name}
        self.pidfile.write_text(json.dumps(identity))

    def reap(self) -> None:
        """Stop the process that a crashed run has left. Call it before ports are chosen, so that its port is free."""
        reap_leftover(self.pidfile, self.stop_signal)

    @property
    def pid(self) -> int | None:
        return self.popen.pid if self.popen is not None else None

    def alive(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def wait_ready(self, probe: Callable[[], bool], timeout_s: float) -> None:
        """Call `probe` until it returns True.

        Raises
        ------
        ServiceError
            The server ended, or was not ready within `timeout_s`; the message ends with the tail of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not probe():
            if not self.alive():
                code = self.popen.returncode if self.popen is not None else "never started"
                raise ServiceError(f"{self.name} ended while starting ({code}); its log says:\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{self.name} was not ready after {timeout_s:.0f} s; its log says:\n{tail(self.log)}"
                )
            time.sleep(POLL_S)

    def ask_to_stop(self) -> None:
        """Send the stop signal (once) and return at once; `stop()` waits."""
        if self.alive() and self.popen is not None and not self._asked:
            self._asked = True
            with contextlib.suppress(ProcessLookupError):
                self.popen.send_signal(self.stop_signal)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop the server and all its child processes. It may be called twice."""
        if self.popen is None:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)  # child processes that still run, or the server itself
        self.popen.wait()
        self.popen = None
        self.pidfile.unlink(missing_ok=True)


def reap_leftover(pidfile: Path, stop_signal: signal.Signals = signal.SIGTERM) -> bool:
    """Stop the process that `pidfile` names, if it is still the same process. Return whether there was one."""
    try:
        identity = json.loads(pidfile.read_text())
        pid, started = int(identity["pid"]), identity["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if started is None or started_at(pid) != started:
        pidfile.unlink(missing_ok=True)
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, stop_signal)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while started_at(pid) == started and time.monotonic() < deadline:
        time.sleep(POLL_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    pidfile.unlink(missing_ok=True)
    return True


def _setpriv(stop_signal: signal.Signals, privileges: Sequence[str]) -> list[str]:
    """Return a prefix for a command that ends it when this program ends in any way, and that drops privileges.

    Both in one call: the kernel forgets the parent-death signal when a process changes its user.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return []
    return [setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG"), *privileges, "--"]
