"""`audio-pipeline`: the operator's program. Each command is defined in `commands/`; this file joins them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from commands import (
    batch,
    clip,
    database,
    erasing,
    failed,
    inject,
    logs,
    model_sets,
    policy,
    policy_archive,
    settings,
    upkeep,
    worker,
)
from commands.context import CONFIG, ENV_FILE, NEEDS_A_PERSON, UNAVAILABLE, Context
from commands.status import status
from errors import ConfigError, PipelineError, ServiceUnavailableError
from system import shown

HELP = """Show the state of the pipeline, and repair it.

Begin with `audio-pipeline status`. A command that changes or removes data first shows what it will change and how many,
then asks. The table `operator_actions` records every change: who, when, what and how many.
"""

EPILOG = f"""
This program reads the same settings as the workers. A setting comes from the environment. If it is not set there, it
comes from the file given by `--env-file`, or else from `{ENV_FILE}` if you have the right to read that file.
`audio-pipeline config show` shows where each setting came from.

Exit codes: `0` the command did its work and nothing needs a person. `{NEEDS_A_PERSON}` something needs a person, or
the command did not do its work. `2` wrong usage. `{UNAVAILABLE}` a service is unavailable. `{CONFIG}` a setting is
missing or malformed.
"""

app = typer.Typer(
    name="audio-pipeline",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown" if sys.stdout.isatty() else None,  # plain text for pipes and files
)


@app.callback()
def root(
    ctx: typer.Context,
    env_file: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDIO_PIPELINE_ENV_FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Read settings from this file: one NAME=value per line.",
            show_default=str(ENV_FILE),
        ),
    ] = None,
) -> None:
    ctx.obj = Context(env_file)


app.command(rich_help_panel="See")(status)
app.add_typer(batch.app, name="batch", rich_help_panel="See")
app.add_typer(failed.app, name="failed", rich_help_panel="See")
app.add_typer(worker.app, name="worker", rich_help_panel="See")
app.command(rich_help_panel="See")(logs.logs)
app.add_typer(inject.app, name="inject", rich_help_panel="Repair")
app.add_typer(clip.app, name="clip", rich_help_panel="Repair")
app.command(rich_help_panel="Repair")(upkeep.reconcile)
app.command(rich_help_panel="Repair")(upkeep.expire)
erasing.add_to(clip.app)
policy_archive.add_to(policy.app)
app.add_typer(policy.app, name="policy", rich_help_panel="Policies")
app.add_typer(settings.app, name="config", rich_help_panel="Set up")
app.add_typer(database.app, name="db", rich_help_panel="Set up")
app.add_typer(model_sets.app, name="models", rich_help_panel="Set up")


def main() -> None:
    """Run the program. An error is one sentence on standard error; the exit code tells the kind of error."""
    try:
        app(prog_name="audio-pipeline")
    except PipelineError as error:
        sys.stderr.write(f"{shown.one_line(str(error))}\n")
        sys.exit(_exit_code(error))
    except BrokenPipeError:  # the reader has closed the pipe, as in `audio-pipeline ... | head`
        sys.stderr.close()
        sys.exit(0)


def _exit_code(error: PipelineError) -> int:
    if isinstance(error, ConfigError):
        return CONFIG
    return UNAVAILABLE if isinstance(error, ServiceUnavailableError) else NEEDS_A_PERSON


if __name__ == "__main__":
    main()
