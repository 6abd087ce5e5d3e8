"""Starts the app as it is deployed (gunicorn in ra_app/), waits until it answers, and stops it."""

from __future__ import annotations

import shlex
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.services.process import ServerProcess
from local.services.state import choose_port
from tests.ra_app.conftest import RA_APP, command_env

START_TIMEOUT_S = 60
GUNICORN = 'gunicorn --bind 127.0.0.1:{port} "app:create_app()"'


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
