"""The programs of the demo: starts the three workers and the RA app as systemd does, and runs short commands."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local.demo_paths import LOGS, ROOT, RUN, STOP_TIMEOUT_S
from local.services.process import ServerProcess, ServiceError, tail
from local.services.state import State, port_is_free

WORKERS = ("transfer", "unpack", "gpu")
RA_APP_READY_S = 30.0
USUAL_PORT = 8000
WATCH_S = 0.5


def worker(kind: str, env: Mapping[str, str]) -> ServerProcess:
    """One worker daemon, not yet started."""
    return ServerProcess(
        f"The {kind} worker",
        [sys.executable, "-m", f"workers.{kind}_worker"],
        LOGS / f"{kind}-worker.log",
        RUN / f"{kind}-worker.pid",
        env=os.environ | dict(env) | {"PYTHONUNBUFFERED": "1"},
        cwd=ROOT / "src",
    )


def ra_app(env: Mapping[str, str], port: int) -> ServerProcess:
    """The RA app under gunicorn, not yet started."""
    return ServerProcess(
        "The RA app",
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "--bind", f"127.0.0.1:{port}", "app:create_app()"],
        LOGS / "ra-app.log",
        RUN / "ra-app.pid",
        env=os.environ | dict(env) | {"PYTHONUNBUFFERED": "1"},
        cwd=ROOT / "ra_app",
    )


def exports(env: Mapping[str, str]) -> ServerProcess:
    """The process that makes the RA app's exports, not yet started."""
    return ServerProcess(
        "The exports of the RA app",
        [sys.executable, "-m", "flask", "exports", "work"],
        LOGS / "exports.log",
        RUN / "exports.pid",
        env=os.environ | dict(env) | {"PYTHONUNBUFFERED": "1"},
        cwd=ROOT / "ra_app",
    )


def ra_app_port(state: State) -> int:
    """Return port 8000, which the app has on a host, or another free port if 8000 is taken."""
    return USUAL_PORT if port_is_free(USUAL_PORT) else state.free_port("ra-app")


def ra_app_answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/login")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def check_alive(programs: Sequence[ServerProcess]) -> None:
    """Raise ServiceError if a program has ended. The message shows the end of its log."""
    for program in programs:
        if not program.alive():
            code = program.popen.returncode if program.popen is not None else "never started"
            raise ServiceError(f"{program.name} ended (exit code {code}); its log says:\n{tail(program.log)}")


def stop_all(programs: Sequence[ServerProcess]) -> None:
    for program in programs:
        program.ask_to_stop()
    for program in programs:
        program.stop(STOP_TIMEOUT_S + 10)


def peak_memory_bytes(program: ServerProcess) -> int | None:
    """Return the peak memory of the program, or None if the kernel does not report it."""
    try:
        lines = Path(f"/proc/{program.pid}/status").read_text().splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("VmHWM:")), None)
    return int(found[1]) * 1024 if found else None


def _hand_over(process: subprocess.Popen[bytes], given: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(given.encode())


def _ended(process: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(WATCH_S)
    return process.returncode is not None


def run_command(
    title: str,
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    given: str = "",
    watch: Callable[[str], None] = lambda _line: None,
) -> None:
    """Run a command to its end. If this program ends earlier, the command and its child processes end, too.

    `given` is its standard input. `watch` is called with the last line of its output, about twice a second.

    Raises
    ------
    ServiceError
        The command failed. The message ends with the last lines of its output, which is in `log`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=os.environ | dict(env),
            start_new_session=True,
        )
        try:
            _hand_over(process, given)
            while not _ended(process):
                watch(tail(log, lines=1).strip())
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        raise ServiceError(f"{title} failed (exit code {process.returncode}); its output ends with:\n{tail(log)}")
