"""`audio-pipeline models`: the sets of models of this host, as `python -m models` knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.context import Context
from models import main as run_models

app = typer.Typer(no_args_is_help=True, help="Models: list, fetch and verify sets.")

Set = Annotated[str, typer.Argument(metavar="SET", help="`production` or `demo`.")]


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the sets, and whether they are here.

    With their parts, sizes and licences.
    """
    _run(ctx, "list")


@app.command()
def fetch(
    ctx: typer.Context,
    set_: Set,
    source: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Take the files from here.")] = None,
) -> None:
    """Bring a set to `MODELS_ROOT`.

    Its hashes are checked. A fetch that was cut off goes on where it stopped.

    For example:

    - `audio-pipeline models fetch production`

    - `audio-pipeline models fetch production --from /mnt/models`
    """
    _run(ctx, "fetch", set_, *(("--from", str(source)) if source else ()))


@app.command()
def pin(ctx: typer.Context, set_: Set) -> None:
    """Print what to write into `src/models.toml` for parts that follow a branch.

    The commit of today, and the SHA-256 of its weights. Nothing is downloaded.

    For example:

    - `audio-pipeline models pin production`
    """
    _run(ctx, "pin", set_)


@app.command()
def verify(ctx: typer.Context, set_: Set) -> None:
    """Hash every file of a set.

    Exit code 1 when one is missing or differs from the manifest.
    """
    _run(ctx, "verify", set_)


def _run(ctx: typer.Context, *arguments: str) -> None:
    context: Context = ctx.obj
    raise typer.Exit(run_models(arguments, context.environ))
