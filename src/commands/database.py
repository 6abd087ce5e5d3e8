"""`audio-pipeline db`: the database's schema."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from commands.context import UNAVAILABLE, Context
from db import tls_options

SCHEMA = Path(__file__).resolve().parents[2] / "schema.sql"

# PostgreSQL looks up names in pg_catalog only, so an administrator's session calls no function that another role made.
ADMINISTRATOR = {"PGOPTIONS": "-c search_path=pg_catalog"}

app = typer.Typer(no_args_is_help=True, help="Database: apply and check the schema.")


@app.command()
def init(
    ctx: typer.Context,
    user: Annotated[str, typer.Option(help="The role to log in as: an administrator of the database.")] = "postgres",
    host: Annotated[
        str | None, typer.Option(help="Host, or the directory of the socket. Default: POSTGRES_HOST")
    ] = None,
) -> None:
    """Apply `schema.sql` with psql.

    Run this as an administrator of the database. You can apply the schema again at any time; no data is lost.

    If a password is needed, psql reads it from `~/.pgpass` or `PGPASSWORD`.

    Example: `sudo -u postgres audio-pipeline db init --host /var/run/postgresql`
    """
    context: Context = ctx.obj
    psql = shutil.which("psql")
    if psql is None:
        context.fail("psql is not on the PATH; install the PostgreSQL client", UNAVAILABLE)
    settings = context.settings
    where = ["-h", host or settings.postgres_host, "-p", str(settings.postgres_port), "-d", settings.postgres_db]
    tls = {f"PG{name.upper()}": value for name, value in tls_options(settings).items()}
    done = subprocess.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", *where, "-U", user, "-f", str(SCHEMA)],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ | tls | ADMINISTRATOR,
    )  # fmt: skip
    if done.returncode:
        said = " ".join(line for line in done.stderr.splitlines() if "NOTICE" not in line)
        context.fail(f"schema.sql was not applied: {said}; is {user} an administrator of {settings.postgres_db}?")
    context.say(f"schema.sql is applied to {settings.postgres_db}")


@app.command()
def check(ctx: typer.Context) -> None:
    """Check that the schema is new enough.

    Connects to the database as the pipeline's own role.
    """
    context: Context = ctx.obj
    context.db.check()
    context.say(f"{context.settings.postgres_db}: good")
