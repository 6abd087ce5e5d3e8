"""Runs commands of the guide, and the app as it is deployed (gunicorn in ra_app/), until a block ends."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.services.process import ServerProcess
from local.services.state import choose_port

RA_APP = Path(__file__).resolve().parents[2] / "ra_app"
START_TIMEOUT_S = 60
GUNICORN = 'gunicorn --bind 127.0.0.1:{port} "app:create_app()"'


def command_env(environ: dict[str, str]) -> dict[str, str]:
    """The environment of a command: these settings, and the tools of the environment that runs the tests."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, **environ}


def run(command: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the guide word for word in ra_app/."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=RA_APP,
        env=command_env(environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@contextmanager
def serving(command: str, environ: dict[str, str], logs: Path) -> Iterator[str]:
    """Run a server until the block ends; `{port}` in the command is a free one. Yields its address."""
    port = choose_port()
    program, *rest = shlex.split(command.format(port=port))
    tool = Path(sys.executable).parent / program
    server = ServerProcess(
        program, [tool, *rest], logs / "server.log", logs / "server.pid", env=command_env(environ), cwd=RA_APP
    )
    server.start()
    try:
        address = f"http://127.0.0.1:{port}"
        server.wait_ready(lambda: status(f"{address}/healthz") is not None, START_TIMEOUT_S)
        yield address
    finally:
        server.stop()


def status(address: str) -> int | None:
    """The status that the address answers with, or None when nothing listens there."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - our own http address
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None
