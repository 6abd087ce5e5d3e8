"""Any text from outside: no control character reaches a terminal or a log, and one line stays one line."""

from __future__ import annotations

import io
import json
import logging
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.context import Context, SafeConsole, cell, escape
from system import shown
from utils import _LineFormatter, event

ROOT = Path(__file__).resolve().parents[2]
NASTY = "".join(map(chr, (*range(32), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F))))
NASTY += "".join(map(chr, (*range(0x2066, 0x206A), 0xD800, 0xDFFF)))
TEXT = st.text(st.one_of(st.sampled_from(NASTY), st.characters(exclude_categories=[])))


def assert_safe(text: str) -> None:
    assert not set(text) & set(NASTY), ascii(text)


def logged(write: Any) -> list[str]:
    """The lines of the log that `write(log)` writes."""
    stream, log = io.StringIO(), logging.Logger("test")  # noqa: LOG001 -- one of our own, with one handler
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_LineFormatter("gpu"))
    log.addHandler(handler)
    write(log)
    return stream.getvalue().removesuffix("\n").split("\n")


@given(TEXT)
def test_a_log_line_stays_one_and_commands_nothing(text):
    for write in (
        lambda log: log.error("%s", text),
        lambda log: event(log, logging.INFO, text, reason=text, error=ValueError(text)),
    ):
        [line] = logged(write)
        assert_safe(line)


@given(TEXT)
def test_no_line_of_a_traceback_can_be_taken_for_one_of_the_log(text):
    def write(log: logging.Logger) -> None:
        log.error("unexpected", exc_info=ValueError(text))

    first, *trace = logged(write)
    assert first.endswith("ERROR gpu unexpected")
    for line in trace:
        assert line.startswith("    ")
        assert_safe(line)


@given(TEXT)
def test_json_has_no_such_character_and_says_the_same(text):
    said = shown.as_json({text: [text]}, indent=2)
    for line in said.split("\n"):
        assert_safe(line)
    assert json.loads(said) == json.loads(json.dumps({text: [text]}))


@given(TEXT)
def test_what_reaches_the_console_unescaped_commands_nothing(text):
    stream = io.StringIO()
    console = SafeConsole(file=stream, width=1000, soft_wrap=True, emoji=False, highlight=False)
    console.print(text, markup=False)
    console.print(escape(text))
    console.print(cell(text, 20))
    for line in stream.getvalue().split("\n"):
        assert_safe(line)


@given(TEXT)
def test_a_sentence_and_a_cell_are_one_line(text):
    for made in (shown.one_line(text), escape(text), cell(text)):
        assert_safe(made)
    assert len(shown.shortened(text, 20)) <= 20


def test_a_sentence_on_standard_output_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Context().say(NASTY)
    sys.stdout.flush()
    assert_safe(capsys.readouterr().out.removesuffix("\n"))


@pytest.mark.parametrize("file", ["ra_app/gunicorn.conf.py", "ansible/roles/common/files/host_findings.py"])
@pytest.mark.parametrize("bad", [NASTY, "plain é"])
def test_programs_that_are_deployed_alone_have_the_same_rule(file: str, bad: str) -> None:
    module = runpy.run_path(str(ROOT / file))
    assert module["_FORBIDDEN"].pattern == f"[{shown.FORBIDDEN}]"
    if "screen" in module:
        said = module["screen"]("host", [module["Finding"]("models", False, bad, bad)]).split("\n")
        assert len(said) == 3
    else:
        record = logging.LogRecord("app", logging.ERROR, "", 0, bad, None, None)
        said = [module["_LineFormatter"](fmt="%(message)s").format(record)]
    for line in said:
        assert_safe(line)
