"""Runs `audio-pipeline` inside the test's process: the same `cli.main`, with the streams and settings of the test.

A start costs half a second of processor time, and most tests only ask for arguments, output and exit codes.
Typer's own CliRunner bypasses `cli.main`, where errors become sentences and exit codes.
"""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from unittest import mock

from cli import main

Ran = subprocess.CompletedProcess[str]


def run(arguments: tuple[str, ...], env: Mapping[str, str], answer: str | None = None) -> Ran:
    """Run the program with only `env` in its environment.

    With `answer`, standard input is a terminal on which this text is typed; otherwise it is empty.
    """
    out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with ExitStack() as stack:
        stdin = stack.enter_context(open(os.devnull)) if answer is None else _terminal(stack, answer)  # noqa: PTH123
        stack.enter_context(mock.patch.object(sys, "stdin", stdin))
        stack.enter_context(mock.patch.object(sys, "argv", ["audio-pipeline", *arguments]))
        stack.enter_context(mock.patch.dict(os.environ, env, clear=True))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(errors))
        code = _exit_code()
    return subprocess.CompletedProcess(sys.argv[:1], code, _text(out), _text(errors))


def _exit_code() -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _terminal(stack: ExitStack, answer: str) -> io.TextIOBase:
    master, slave = pty.openpty()
    stack.callback(os.close, master)
    os.write(master, f"{answer}\n".encode())
    return stack.enter_context(os.fdopen(slave, "r"))


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
