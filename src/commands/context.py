"""What the commands share: settings and services when they are first needed, output, questions, and the record."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

import redis
import typer
from rich.console import Console

from audit import AuditLog
from config import Settings, load_settings
from db_overview import DatabaseOverview
from dead_letters import DeadLetters
from s3_utils import ObjectStore
from utils import get_redis_client

# Exit codes, as documented in the program's help.
OK, NEEDS_A_PERSON, USAGE, UNAVAILABLE, CONFIG = 0, 1, 2, 69, 78


class Context:
    """One per run of the program; each service is reached when a command first asks for it."""

    @functools.cached_property
    def settings(self) -> Settings:
        return load_settings()

    @functools.cached_property
    def redis(self) -> redis.Redis:
        return get_redis_client(self.settings)

    @functools.cached_property
    def db(self) -> DatabaseOverview:
        return DatabaseOverview(self.settings)

    @functools.cached_property
    def s3(self) -> ObjectStore:
        return ObjectStore(self.settings)

    @functools.cached_property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.redis, self.settings.scratch_root)

    @functools.cached_property
    def console(self) -> Console:
        return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)

    @functools.cached_property
    def errors(self) -> Console:
        return Console(stderr=True, soft_wrap=True, highlight=False)

    def record(self, action: str, subject: str, affected: int, details: Mapping[str, Any] | None = None) -> None:
        """Write a change into the audit table."""
        AuditLog(self.settings).record(action, subject, affected, details)

    def json(self, value: object) -> None:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before a change; without a terminal `--yes` must say so."""
        if yes:
            return
        if not sys.stdin.isatty():
            self.fail(f"{question} Nobody is there to answer; say --yes")
        if not typer.confirm(question):
            raise typer.Exit(NEEDS_A_PERSON)

    def fail(self, sentence: str, code: int = NEEDS_A_PERSON) -> NoReturn:
        """One sentence on standard error, and the end."""
        self.errors.print(f"[red]{_escaped(sentence)}[/red]")
        raise typer.Exit(code)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def ago(seconds: float | None) -> str:
    """A span for people: 42 s, 7 min, 3.2 h, 5 d."""
    if seconds is None:
        return "–"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def size(count: float | None) -> str:
    """Bytes for people."""
    if count is None:
        return "–"
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in {"B", "KB"} else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
