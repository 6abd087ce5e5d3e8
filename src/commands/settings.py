"""`audio-pipeline config`: every setting, and whether what it names can be reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich.table import Table

import scratch
from commands.context import NEEDS_A_PERSON, Context
from config import origins
from db import Database
from errors import PipelineError
from redis_checks import check_clock, check_redis

app = typer.Typer(no_args_is_help=True, help="Settings: show, check.")


@app.command()
def show(ctx: typer.Context, *, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Show every effective setting and where it came from; secrets are masked."""
    context: Context = ctx.obj
    rows = [(name, "(set)" if secret and value else str(value), origin) for name, value, origin, secret in origins()]
    if as_json:
        context.json({name: {"value": value, "from": origin} for name, value, origin in rows})
        return
    table = Table("SETTING", "VALUE", "FROM", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    context.console.print(table)


@app.command()
def check(ctx: typer.Context) -> None:
    """Reach every dependency; one line each."""
    context: Context = ctx.obj
    settings = context.settings
    database = Database(settings)
    checks: dict[str, Callable[[], object]] = {
        "Redis": lambda: check_redis(context.redis),
        "Postgres": database.check,
        "clocks": lambda: check_clock(database.server_time(), "Postgres"),
        "S3": context.s3.check,
        "scratch": lambda: scratch.check_scratch(settings.scratch_root, settings.scratch_mount),
    }
    bad = 0
    for name, ask in checks.items():
        try:
            remarks = ask() or []
        except PipelineError as error:
            bad += 1
            context.console.print(f"[red]{name:9} {error}[/red]")
            continue
        context.console.print(f"{name:9} good" + "".join(f"; {remark}" for remark in remarks))  # type: ignore[attr-defined]
    if bad:
        raise typer.Exit(NEEDS_A_PERSON)
