"""`audio-pipeline logs`: what this host's journal says of a batch."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Annotated

import typer

from commands.context import UNAVAILABLE, Context

UNITS = ("transfer-worker", "unpack-worker", "gpu-worker")


def logs(
    ctx: typer.Context,
    batch_id: Annotated[str, typer.Argument(metavar="BATCH", help="As `batch list` shows it.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come, until Ctrl-C.")] = False,
    since: Annotated[str | None, typer.Option(help="As journalctl takes it: `yesterday`, `-2h`, `2026-01-31`.")] = None,
) -> None:
    """Show a batch's lines from the journal.

    Those of all three workers of this host, in order; a batch's other hosts have journals of their own.
    Who may read the journal is up to the host: members of the group `systemd-journal` may.

    Example: `audio-pipeline logs 20250622-143052-a1b2c3 --since yesterday`
    """
    context: Context = ctx.obj
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        context.fail("there is no journalctl on this host; ask on a host that runs a worker", UNAVAILABLE)
    command = [journalctl, "--no-pager", "--quiet", "--output=short-iso"]
    command += [f"--unit={unit}" for unit in UNITS]
    command += [f"--grep=batch={re.escape(batch_id)}( |$)", "--case-sensitive=yes"]
    command += [f"--since={since}"] if since else []
    command += ["--follow", "--lines=all"] if follow else []
    try:
        found = subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return
    if found:
        context.fail(f"the journal of this host has no line of batch {batch_id}")
