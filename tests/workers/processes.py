"""Workers as systemd runs them: separate processes, stopped by signals, watched through their log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

SRC = Path(__file__).resolve().parents[2] / "src"
WAIT_S = 40.0  # far above what anything takes: a bound, not a measure


def wait_until(condition: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
    """Poll until `condition()` is true; the failure message names `what`."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within_s:.0f} s in vain for: {what}")
        threading.Event().wait(0.05)  # between two looks


class WorkerProcess:
    """`python -m workers.{kind}_worker`, with its log in a file; or `{prefix} python -m {module}`."""

    def __init__(
        self, kind: str, env: Mapping[str, str], log: Path, module: str | None = None, prefix: Sequence[str] = ()
    ) -> None:
        self.kind, self.log = kind, log
        path = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": f"{SRC}:{SRC.parent}"}
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-m", module or f"workers.{kind}_worker"],
                cwd=SRC,
                env={**path, **env},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.send(signal.SIGKILL)
        self._process.wait()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        return self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_code(self, within_s: float = WAIT_S) -> int:
        return self._process.wait(within_s)

    def wait_for(self, words: str, within_s: float = WAIT_S) -> None:
        """Wait until the log has `words`; fails at once when the worker ends without them."""
        wait_until(lambda: words in self.text or not self.running, f"{words!r} in the log of {self.kind}", within_s)
        assert words in self.text, f"{self.kind} ended without {words!r}:\n{self.text}"
