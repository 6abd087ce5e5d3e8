"""The demo: a signal at any moment stops all its processes, a dead worker is named, and reset deletes all data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.services import Services
from local.services.process import started_at
from tests.local.helpers import ROOT
from tests.workers.processes import wait_until

STOPPED_WITHIN_S = 40  # on a busy machine; a second or two otherwise

# What is fetched is not what these tests are about; it would only take time.
WITHOUT_FETCHING = """
import sys
from local import demo
demo.Demo._fetch_models = lambda self: None
demo.fetch_librivox = lambda folder: []
sys.exit(demo.main(sys.argv[1]))
"""


class RunningDemo:
    def __init__(self, process: subprocess.Popen[str], root: Path) -> None:
        self.process = process
        self.root = root
        self.pids: set[int] = set()

    def read_until(self, text: str) -> str:
        """The output up to the line with `text`; fails when the demo ends before."""
        seen = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            seen += line
            self._note_pids()
            if text in line:
                return seen
        pytest.fail(f"the demo ended without saying {text!r}:\n{seen}")

    def rest(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def pid_of(self, name: str) -> int:
        return int(json.loads((self.root / "run" / f"{name}.pid").read_text())["pid"])

    def left_behind(self) -> list[int]:
        return [pid for pid in self.pids if started_at(pid) is not None]

    def _note_pids(self) -> None:
        for file in (self.root / "run").glob("*.pid"):
            self.pids.add(self.pid_of(file.stem))


@contextmanager
def demo(root: Path, command: str) -> Iterator[RunningDemo]:
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_FETCHING, command],
        cwd=ROOT,
        env=os.environ | {"DEMO_ROOT": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield RunningDemo(process, root)
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=STOPPED_WITHIN_S)


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Services: Valkey, PostgreSQL, Swift, SFTP host ...", signal.SIGTERM),
        pytest.param("RA app ...", signal.SIGINT, marks=pytest.mark.thorough),
        pytest.param("Clips (", signal.SIGTERM, marks=pytest.mark.thorough),
    ],
    ids=["services starting", "RA app starting", "clips under way"],
)
def test_a_signal_at_any_moment_ends_all_that_was_started(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    with demo(tmp_path / "demo", "run") as running:
        running.read_until(moment)
        running.process.send_signal(number)
        began = time.monotonic()
        said = running.rest()
        running.process.wait(STOPPED_WITHIN_S)
        assert time.monotonic() - began < STOPPED_WITHIN_S
    assert "Stopping the programs and services of the demo." in said
    assert "Traceback" not in said
    assert running.left_behind() == []
    assert not list((tmp_path / "demo/run").glob("*.pid"))


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_demo_that_a_shell_put_into_the_background(tmp_path: Path, number: signal.Signals) -> None:
    """A shell without job control starts background processes with SIGINT ignored. The demo must still react to it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        running_demo = demo(tmp_path / "demo", "run")
        running = running_demo.__enter__()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        running.read_until("RA app ...")
        running.process.send_signal(number)
        said = running.rest()
        running.process.wait(STOPPED_WITHIN_S)
    finally:
        running_demo.__exit__(None, None, None)
    assert "Stopping the programs and services of the demo." in said
    assert running.left_behind() == []


@pytest.mark.thorough
def test_the_settings_file_serves_flask_and_the_logs_command(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    with demo(root, "run") as running:
        running.read_until("Clips (")
        with (root / "logs/gpu-worker.log").open("a") as log:
            log.write("2026-01-31T10:00:00 INFO gpu clip done batch=b-1\n")
        script = f". {root}/env; flask db history && cd / && flask db current && python {ROOT}/src/cli.py logs b-1"
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        running.process.send_signal(signal.SIGTERM)
        running.rest()
    assert done.returncode == 0, done.stderr
    assert "-> " in done.stdout, "the history of the migrations"
    assert "(head)" in done.stdout
    assert "clip done batch=b-1" in done.stdout


@pytest.mark.thorough
def test_a_worker_that_dies_ends_the_demo_with_the_tail_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "demo/logs/transfer-worker.log"
    with demo(tmp_path / "demo", "check") as running:
        running.read_until("Clips (")
        wait_until(lambda: log.exists() and "starting kind=transfer" in log.read_text(), "the worker's first line")
        os.kill(running.pid_of("transfer-worker"), signal.SIGKILL)
        said = running.rest()
        assert running.process.wait(STOPPED_WITHIN_S) == 1
    assert "The transfer worker ended (exit code -9); its log says:" in said
    assert "starting kind=transfer" in said
    assert running.left_behind() == []


@pytest.mark.thorough
def test_reset_deletes_the_data_and_refuses_while_the_demo_runs(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    with Services(root, durable=False), demo(root, "reset") as refused:
        assert "already runs the services" in refused.rest()
        assert refused.process.wait(STOPPED_WITHIN_S) == 1
    assert (root / "state.json").exists()
    with demo(root, "reset") as done:
        assert "Deleted" in done.rest()
        assert done.process.wait(STOPPED_WITHIN_S) == 0
    assert not root.exists()
