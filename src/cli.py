"""`audio-pipeline`: the operator's program. Each command lies in `commands/`; this file puts them together."""

from __future__ import annotations

import sys

import typer

from commands import batch, failed, inject, settings, upkeep, worker
from commands.context import CONFIG, UNAVAILABLE, Context
from commands.status import status
from errors import ConfigError, PipelineError, ServiceUnavailableError

EPILOG = """
Exit codes: 0 done; 1 something needs a person, or could not be done; 2 wrong usage; 69 a service is unavailable;
78 a setting is missing or malformed.

Settings come from the environment, as for the workers: set -a; . /opt/audio-pipeline/.env; set +a
"""

app = typer.Typer(
    name="audio-pipeline",
    help="See the pipeline and repair it. Every change is recorded in the table operator_actions.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def root(ctx: typer.Context) -> None:
    """See the pipeline and repair it. Every change is recorded in the table operator_actions."""
    ctx.obj = Context()


app.command()(status)
app.add_typer(inject.app, name="inject")
app.add_typer(failed.app, name="failed")
app.add_typer(batch.app, name="batch")
app.add_typer(worker.app, name="worker")
app.command()(upkeep.reconcile)
app.command()(upkeep.expire)
app.add_typer(settings.app, name="config")
app.add_typer(upkeep.db_app, name="db")
app.command()(upkeep.logs)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def models(ctx: typer.Context) -> None:
    """List, fetch and verify models: audio-pipeline models list | fetch SET | verify SET."""
    from models import main as models_main

    raise typer.Exit(models_main(ctx.args))


def main() -> None:
    try:
        app()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(CONFIG)
    except ServiceUnavailableError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(UNAVAILABLE)
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
