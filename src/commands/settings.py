"""`audio-pipeline config`: show every setting, and check the services that the settings name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import typer
from rich.table import Table

from commands.context import NEEDS_A_PERSON, Context, escape
from commands.options import AsJson
from config import Settings, origins
from db import Database
from errors import PipelineError
from moderation.policies import load_policies
from monitoring.redis_checks import check_clock, check_redis
from scratch import volume

_ASK_POSTGRES = {"clocks", "policies"}  # they would say again what is wrong with Postgres

app = typer.Typer(no_args_is_help=True, help="Settings: show and check them.")


@app.command()
def show(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """Show every setting and its origin.

    The values of secrets are not shown.
    """
    context: Context = ctx.obj
    rows = [
        (name, "(set)" if secret and value else str(value), _origin(context, name, origin))
        for name, value, origin, secret in origins(context.environ)
    ]
    if as_json:
        context.json({name: {"value": value, "from": origin} for name, value, origin in rows})
        return
    table = Table("SETTING", "VALUE", "FROM", box=None, pad_edge=False)
    for name, value, origin in rows:
        table.add_row(name, escape(value), origin)
    context.console.print(table)


def _origin(context: Context, name: str, origin: str) -> str:
    from_file = origin == "environment" and name not in os.environ
    return str(context.env_file) if from_file else origin


@app.command()
def check(ctx: typer.Context) -> None:
    """Check every service, the policies and the scratch.

    Makes the same checks as a worker at its start, and prints one line each. The exit code is 1 when a check fails. A
    policy whose text was edited, and whose version was not, fails.
    """
    context: Context = ctx.obj
    settings = context.settings
    database = context.db
    checks: dict[str, Callable[[], Sequence[str] | None]] = {
        "Redis": lambda: check_redis(context.redis),
        "Postgres": database.check,
        "clocks": lambda: check_clock(database.server_time(), "Postgres"),
        "policies": lambda: _check_policies(settings, database),
        "S3": context.s3.check,
        "scratch": lambda: _check_scratch(settings),
    }
    bad, postgres_answers = 0, True
    for name, ask in checks.items():
        if name in _ASK_POSTGRES and not postgres_answers:
            context.say(f"{name:9} not checked, because the check of Postgres failed")
            continue
        try:
            remarks = ask() or ()
        except PipelineError as error:
            bad += 1
            postgres_answers &= name != "Postgres"
            context.console.print(f"{name:9} [red]{escape(str(error))}[/red]")
        else:
            context.say("; ".join([f"{name:9} good", *remarks]))
    if bad:
        raise typer.Exit(NEEDS_A_PERSON)


def _check_policies(settings: Settings, database: Database) -> Sequence[str]:
    policies = load_policies(settings.policies_dir)
    database.check_policies(policies, settings.policies_dir)
    return [", ".join(f"{policy.id}@{policy.version}" for policy in policies)]


def _check_scratch(settings: Settings) -> Sequence[str]:
    """Make the worker's check, but accept a host without scratch and a user who cannot write there -> remarks."""
    root, mount = settings.scratch_root, settings.scratch_mount
    volume.check_mounted(root, mount)
    if mount is None and not root.parent.exists():
        return [f"{root.parent} does not exist: this is right for a host that unpacks nothing"]
    if root.exists() and os.geteuid() not in {0, root.stat().st_uid} and not os.access(root, os.W_OK | os.X_OK):
        return [f"writing was not tried: {root} belongs to {root.owner()}"]
    volume.check_scratch(root, mount)
    return []
