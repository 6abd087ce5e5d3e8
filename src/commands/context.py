"""What the commands share: settings, connections to the services, output, questions and the audit record."""

from __future__ import annotations

import functools
import io
import os
import re
import shlex
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import redis
import rich.markup
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from config import Settings, load_settings
from db import AuditLog, Change, DatabaseOverview, TranscriptArchive
from errors import ConfigError
from jobs.dead_letters import DeadLetters
from system import shown
from utils import get_redis_client

if TYPE_CHECKING:  # loading boto3 takes a third of a second; commands that do not use S3 skip it
    from recovery.reconcile import Reconciler
    from s3_utils import ObjectStore

# Exit codes, as documented in the program's help.
NEEDS_A_PERSON, UNAVAILABLE, CONFIG = 1, 69, 78
ENV_FILE = Path("/opt/audio-pipeline/.env")  # where a deployment keeps the settings of a host


class Context:
    """One per run of the program. It connects to a service when a command first uses that service."""

    def __init__(self, env_file: Path | None = None) -> None:
        self._env_file = env_file
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a payload may hold characters that cannot be encoded
                stream.reconfigure(errors="backslashreplace")

    @functools.cached_property
    def environ(self) -> dict[str, str]:
        """Where settings come from: the environment first, then the settings file."""
        return {**self.file_settings, **os.environ}

    @functools.cached_property
    def env_file(self) -> Path | None:
        """The settings file to read: the one given by --env-file, or else the deployment's, if it is readable."""
        given = self._env_file or (ENV_FILE if os.access(ENV_FILE, os.R_OK) else None)
        return given.resolve() if given else None

    @functools.cached_property
    def file_settings(self) -> dict[str, str]:
        return read_env_file(self.env_file) if self.env_file else {}

    @functools.cached_property
    def settings(self) -> Settings:
        return load_settings(self.environ)

    @functools.cached_property
    def models_root(self) -> Path:
        """The directory of the models."""
        return self.settings_without_services("MODELS_ROOT").models_root

    @functools.cached_property
    def policy_settings(self) -> Settings:
        """Where policies and models are, and the device."""
        return self.settings_without_services("MODELS_ROOT", "MODEL_SET", "POLICIES_DIR", "DEVICE", "MODERATION_DTYPE")

    def settings_without_services(self, *names: str) -> Settings:
        """Read only the named settings: who fetches models or writes policies needs no keys for S3."""
        unused = {"S3_ENDPOINT": "http://unused", "S3_ACCESS_KEY": "unused", "S3_SECRET_KEY": "unused"}
        own = {name: value for name, value in self.environ.items() if name in names}
        return load_settings({**unused, **own})

    @functools.cached_property
    def redis(self) -> redis.Redis:
        return get_redis_client(self.settings)

    @functools.cached_property
    def db(self) -> DatabaseOverview:
        return DatabaseOverview(self.settings)

    @functools.cached_property
    def archive(self) -> TranscriptArchive:
        return TranscriptArchive(self.settings)

    @functools.cached_property
    def s3(self) -> ObjectStore:
        from s3_utils import ObjectStore

        return ObjectStore(self.settings)

    @functools.cached_property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.redis, self.settings.scratch_root)

    @functools.cached_property
    def audit(self) -> AuditLog:
        return AuditLog(self.settings)

    @functools.cached_property
    def reconciler(self) -> Reconciler:
        from recovery.reconcile import Reconciler

        return Reconciler(self.redis, self.db, self.s3, self.letters)

    @functools.cached_property
    def console(self) -> Console:
        # Rich would replace ":100:" in a worker's name by an emoji. The width: output to a pipe is not wrapped.
        terminal = sys.stdout.isatty()
        return SafeConsole(soft_wrap=not terminal, width=None if terminal else 1000, highlight=False, emoji=False)

    @functools.cached_property
    def errors(self) -> Console:
        return SafeConsole(stderr=True, soft_wrap=True, highlight=False, emoji=False)

    def change(
        self, action: str, subject: str, planned: int, details: dict[str, Any] | None = None
    ) -> AbstractContextManager[Change]:
        """Write a change to the audit table before it begins, and again when it ends; the caller sets `affected`."""
        return self.audit.change(action, subject, planned, details or {})

    def say(self, sentence: str) -> None:
        """Print a sentence on standard output without Rich's markup, because names of clips may hold brackets."""
        self.console.print(shown.one_line(sentence), markup=False)

    def json(self, value: object) -> None:
        sys.stdout.write(shown.as_json(value, indent=2, default=_plain) + "\n")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before a change. Without a terminal, `--yes` is required."""
        if yes:
            return
        question = shown.one_line(question)
        if not sys.stdin.isatty():
            self.fail(f"{question} Nothing is changed: there is no terminal to ask on; add --yes")
        if not typer.confirm(question):
            self.fail("Nothing is changed.")

    def fail(self, sentence: str, code: int = NEEDS_A_PERSON) -> NoReturn:
        """Print one sentence on standard error and end the program."""
        self.errors.print(f"[red]{escape(sentence)}[/red]")
        raise typer.Exit(code)


class SafeConsole(Console):
    """Escapes control characters in everything it prints, as a last protection of the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Rich's own commands (colours, the cursor) are styles and control segments, not text.
            yield segment if segment.control else Segment(shown.lines(segment.text), segment.style)


def read_env_file(path: Path) -> dict[str, str]:
    """Read a file of `NAME=value` lines, as systemd and shells do; raises ConfigError."""
    found = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the settings file {path} cannot be read ({error}); check the file and its access rights"
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            words = _words(line)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}") from error
        for word in words[1:] if words[:1] == ["export"] else words:
            name, equals, value = word.partition("=")
            if not equals or not name.isidentifier():
                raise ConfigError(
                    f"{path}:{number}: a line must be NAME=value; put a value that holds spaces in quotes"
                )
            found[name] = value
    return found


def _words(line: str) -> list[str]:
    """Split a line into words. As in shells, a # begins a comment only at the start of a word and outside quotes."""
    for match in re.finditer(r"(?:^|\s)#", line):
        with suppress(ValueError):  # this # is inside quotes
            return shlex.split(line[: match.start()])
    return shlex.split(line)


def escape(text: str) -> str:
    """Make text from outside safe for a table's cell: on one line, with brackets that Rich does not interpret."""
    return rich.markup.escape(shown.one_line(text))


def cell(text: str, width: int = 60) -> str:
    """The same as `escape`, cut to `width` characters, so that one long name does not make a table unreadable."""
    return rich.markup.escape(shown.shortened(text, width))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def ago(seconds: float | None) -> str:
    """Format a duration for people: 42 s, 7 min, 3.2 h, 5 d."""
    if seconds is None:
        return "–"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def counted(count: int, one: str, many: str = "") -> str:
    """Format a count with its noun: 1 job, 2,000 jobs."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def clock(iso: str) -> str:
    """Format a time in this host's time zone."""
    return f"{datetime.fromisoformat(iso).astimezone():%H:%M:%S}"


def size(count: float | None) -> str:
    """Format a number of bytes for people."""
    if count is None:
        return "–"
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in {"B", "KB"} else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
