"""The demo's output: its steps with their seconds. A terminal shows the progress in one line that changes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.status import Status

WIDTH = 150  # columns of tables where there is no terminal
LINE_EVERY_S = 5.0


class Screen:
    def __init__(self) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(highlight=False, width=WIDTH)
        self._started = time.monotonic()
        self._status: Status | None = None
        self._last = ""
        self._next_line_s = 0.0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def say(self, text: str, style: str | None = None) -> None:
        self.console.print(escape(text), style=style, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, title: str, hint: str = "") -> Iterator[None]:
        """Show a step when it begins, with a `hint` about its duration, and its seconds when it ends."""
        began = time.monotonic()
        shown = f"{title} ({hint})" if hint else title
        if self.console.is_terminal:
            self._status = self.console.status(escape(shown))
            self._status.start()
        else:
            self.say(f"[{self.elapsed_s:6.1f} s] {shown} ...")
        try:
            yield
        except BaseException:  # raised again: a step that a signal interrupts is shown as not finished, too
            self._end_status()
            self.say(f"[{self.elapsed_s:6.1f} s] {title}: not finished", "red")
            raise
        self._end_status()
        self.say(f"[{self.elapsed_s:6.1f} s] {title}: done in {time.monotonic() - began:.1f} s", "green")

    def update(self, text: str) -> None:
        """Show the progress of the step: on a terminal in place, else as a new line every few seconds."""
        if self._status is not None:
            self._status.update(escape(text))
        elif text != self._last and self.elapsed_s >= self._next_line_s:
            self.say(f"[{self.elapsed_s:6.1f} s]   {text}")
            self._last = text
            self._next_line_s = self.elapsed_s + LINE_EVERY_S

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
