"""`audio-pipeline reconcile | expire | db | logs`: what is done now and then."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

import scratch
from batches import Batches
from commands.context import UNAVAILABLE, Context
from db import Database
from reconcile import Reconciler

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
SCHEMA = Path(__file__).resolve().parents[2] / "schema.sql"
UNITS = ("transfer-worker", "unpack-worker", "gpu-worker")

db_app = typer.Typer(no_args_is_help=True, help="The database: init, check.")


def reconcile(ctx: typer.Context, *, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Make Redis agree with Postgres and S3 again: what is not complete, and not on its way, is unpacked again.

    It shows what would change, asks, and changes it. Nothing that is under way is touched.
    """
    context: Context = ctx.obj
    reconciler = Reconciler(context.redis, context.db, context.s3, context.letters)
    restarts = reconciler.plan(archives=True)
    for restart in restarts:
        context.console.print(f"{restart.job.batch_id}: {restart.reason}", markup=False)
    if restarts and not dry_run:
        context.confirm(f"Unpack {len(restarts)} archives again? Clips that are done are skipped.", yes=yes)
        reconciler.apply(restarts)
        context.record("reconcile", ",".join(restart.job.batch_id for restart in restarts)[:500], len(restarts))
    context.console.print(f"{len(restarts)} batches {'would be' if dry_run else 'were'} brought back")


def expire(
    ctx: typer.Context,
    *,
    days: Annotated[int, typer.Option(min=1, help="Age of the archives, since their upload.")] = 7,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete archives of complete batches from S3 once they are old, and this host's scratch of batches that are over.

    An archive whose batch is not complete is never deleted, however old.
    """
    context: Context = ctx.obj
    complete = context.db.complete_archives()
    before = datetime.now(UTC) - timedelta(days=days)
    old = [key for key, at in context.s3.modified("archives/") if key in complete and at < before]
    batches = Batches(context.redis)

    def in_use(batch_id: str) -> bool:
        return batches.under_way(batch_id) or context.db.batch_finished(batch_id) is False

    if dry_run:
        for key in old:
            context.console.print(f"would delete {key}", markup=False)
        context.console.print(f"{len(old)} archives would be deleted")
        return
    if old:
        context.confirm(f"Delete {len(old)} archives older than {days} days from S3?", yes=yes)
        for key in old:
            context.s3.delete(key)
        context.record("expire", f"archives older than {days} days", len(old))
    swept = scratch.sweep(context.settings.scratch_root, in_use)
    if swept:
        context.record("expire", f"scratch of {context.settings.host}", len(swept))
    context.console.print(f"{len(old)} archives deleted, {len(swept)} scratch directories removed")


@db_app.command()
def init(
    ctx: typer.Context,
    user: Annotated[str, typer.Option(help="A database administrator.")] = "postgres",
) -> None:
    """Apply schema.sql as administrator, with psql. It may be applied again at any time."""
    context: Context = ctx.obj
    psql = shutil.which("psql")
    if psql is None:
        context.fail("psql is not on the path; install the PostgreSQL client", UNAVAILABLE)
    settings = context.settings
    command = [psql, "-v", "ON_ERROR_STOP=1", "-q", "-h", settings.postgres_host, "-p", str(settings.postgres_port)]
    done = subprocess.run([*command, "-U", user, "-d", settings.postgres_db, "-f", str(SCHEMA)], check=False)
    if done.returncode:
        context.fail(f"psql ended with {done.returncode}; is {user} an administrator of {settings.postgres_db}?")
    context.console.print("schema.sql is applied")


@db_app.command()
def check(ctx: typer.Context) -> None:
    """Reach the database as the pipeline's role and compare the schema's version."""
    context: Context = ctx.obj
    Database(context.settings).check()
    context.console.print(f"{context.settings.postgres_db}: good")


def logs(
    ctx: typer.Context,
    batch_id: Annotated[str, typer.Argument(metavar="BATCH")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
) -> None:
    """Show this batch's lines from the journal of this host."""
    context: Context = ctx.obj
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        context.fail("journalctl is not on the path; this host has no journal", UNAVAILABLE)
    units = [argument for unit in UNITS for argument in ("-u", unit)]
    command = [journalctl, *units, "--no-pager", "-o", "short-iso", "-g", f"batch={batch_id}\\b"]
    raise typer.Exit(subprocess.run([*command, *(["-f"] if follow else [])], check=False).returncode)
