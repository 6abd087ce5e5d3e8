"""`audio-pipeline models`: download the models that the GPU workers load, and verify their files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.context import Context
from models import upkeep
from models.manifest import Manifest, load_manifest

app = typer.Typer(no_args_is_help=True, help="Model sets: list, fetch, pin and verify.")

Set = Annotated[str, typer.Argument(metavar="SET", help="`production` or `demo`.")]
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the sets with their parts, sizes and licences, and whether they are on this host."""
    root, manifest = _manifest(ctx)
    for line in upkeep.listing(manifest, root):
        typer.echo(line)


@app.command()
def fetch(
    ctx: typer.Context,
    set_: Set,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Take the files from this folder: a copy of another host's `MODELS_ROOT`, or one folder per part.",
        ),
    ] = None,
) -> None:
    """Download a set into `MODELS_ROOT` and check the hash of every file.

    A set that is already complete is left as it is. When a download is interrupted, run the command again: it
    continues where it stopped. The set `production` needs the variable `HF_TOKEN`.

    For example:

    - `audio-pipeline models fetch production`

    - `audio-pipeline models fetch production --from /mnt/models`
    """
    root, manifest = _manifest(ctx)
    try:
        upkeep.fetch(manifest, set_, root, source, _hub_token(ctx), _say)
    except KeyboardInterrupt:
        typer.echo("stopped; run the same command again to continue", err=True)
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def pin(ctx: typer.Context, set_: Set) -> None:
    """Print the lines to write into `src/models.toml` for parts that follow a branch.

    They hold the newest commit and the SHA-256 of its weights. Nothing is downloaded.

    For example:

    - `audio-pipeline models pin production`
    """
    _, manifest = _manifest(ctx)
    upkeep.pin(manifest, set_, _hub_token(ctx), _say)


@app.command()
def verify(ctx: typer.Context, set_: Set) -> None:
    """Verify the hash of every file of a set.

    The exit code is 1 when a file is missing or differs from the manifest.
    """
    root, manifest = _manifest(ctx)
    upkeep.verify(manifest, set_, root, _say)


@app.command()
def path(
    ctx: typer.Context,
    set_: Annotated[str | None, typer.Argument(metavar="[SET]", help="`production` or `demo`.")] = None,
) -> None:
    """Print the directory of a set; without a set, `MODELS_ROOT`."""
    root, manifest = _manifest(ctx)
    typer.echo(root / manifest.set(set_).name if set_ else root)


def _manifest(ctx: typer.Context) -> tuple[Path, Manifest]:
    context: Context = ctx.obj
    root = context.models_root
    return root, load_manifest(root)


def _hub_token(ctx: typer.Context) -> str | None:
    context: Context = ctx.obj
    return context.environ.get("HF_TOKEN") or None


def _say(line: str) -> None:
    typer.echo(line)
