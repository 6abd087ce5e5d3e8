"""The program's own documentation: help on every level, docs/cli.md, completion."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "cli.md"
EXAMPLE = re.compile(r"`(?:sudo [^`]*)?audio-pipeline ([^`|]+)[^`]*`")
runner = CliRunner()


def commands(group: object = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group, as the words that call it."""
    group = group or typer.main.get_command(app)
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


def test_the_reference_is_what_the_program_says_now(tmp_path):
    written = tmp_path / "cli.md"
    command = ["-m", "typer", "src/cli.py", "utils", "docs", "--name", "audio-pipeline", "--output", str(written)]
    subprocess.run([sys.executable, *command], cwd=ROOT, env={"PYTHONPATH": "src"}, check=True, capture_output=True)
    assert DOCS.read_text() == written.read_text(), "docs/cli.md is out of date: make docs"


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_on_every_level_needs_no_settings_and_stands_in_the_reference(path):
    shown = runner.invoke(app, [*path, "--help"], env={"S3_ENDPOINT": ""})
    assert shown.exit_code == 0
    assert "Usage: " in shown.output
    assert f"`{' '.join(['audio-pipeline', *path])}`" in DOCS.read_text()


def test_every_example_in_the_documentation_names_commands_and_options_that_exist():
    texts = [path.read_text() for path in (DOCS, ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
    examples = sorted({shlex.join(shlex.split(found)) for text in texts for found in EXAMPLE.findall(text)})
    assert len(examples) > 20
    for example in examples:
        shown = runner.invoke(app, [*shlex.split(example), "--help"])
        assert shown.exit_code == 0, f"audio-pipeline {example}: {shown.output}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell, cli):
    script = cli("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert script.returncode == 0, script.stderr
    assert "_AUDIO_PIPELINE_COMPLETE" in script.stdout


def test_bash_offers_what_can_follow(cli):
    words = {"_AUDIO_PIPELINE_COMPLETE": "complete_bash", "COMP_WORDS": "audio-pipeline failed ", "COMP_CWORD": "2"}
    assert cli(**words).stdout.split() == ["list", "show", "retry", "drop", "export"]


def test_output_is_plain_when_it_goes_into_a_pipe(cli):
    for arguments in (["--help"], ["failed", "retry", "--help"], ["config", "show"]):
        shown = cli(*arguments).stdout
        assert shown
        assert not set("\x1b╭│─") & set(shown)
