"""`audio-pipeline logs`: the lines of one batch in this host's journal or log files."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from commands.context import UNAVAILABLE, Context

UNITS = ("transfer-worker", "unpack-worker", "gpu-worker")
LOOK_S = 0.5  # pause between two reads of the log files
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d ")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d)?)?")


def logs(
    ctx: typer.Context,
    batch_id: Annotated[str, typer.Argument(metavar="BATCH", help="The batch id, as `batch list` shows it.")],
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show new lines as they are written, until Ctrl-C.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(help="Show lines from this time on: `yesterday`, `-2h`, `2026-01-31`.")
    ] = None,
) -> None:
    """Show a batch's lines from the journal.

    Shows the lines of all three workers on this host, in order of time. If other hosts worked on the batch, run the
    command there too. You must have the right to read the journal: for example, be a member of the group
    `systemd-journal`.

    When `LOG_DIR` is set, as in the demo, the command reads the log files in that directory instead. `--since` then
    takes a date, with or without a time.

    Example: `audio-pipeline logs 20250622-143052-a1b2c3 --since yesterday`
    """
    context: Context = ctx.obj
    if folder := context.settings.log_dir:
        _from_files(context, folder, batch_id, since, follow=follow)
        return
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        context.fail("this host has no journalctl; run this on a host that runs a worker, or set LOG_DIR", UNAVAILABLE)
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


def _from_files(context: Context, folder: Path, batch_id: str, since: str | None, *, follow: bool) -> None:
    """Print the batch's lines from the workers' log files, in order of time."""
    if since and not _MOMENT.fullmatch(since):
        raise typer.BadParameter("for log files, give a date like 2026-01-31 or 2026-01-31T14:30", param_hint="--since")
    files = {folder / f"{unit}.log": 0 for unit in UNITS}
    after = (since or "").replace(" ", "T")
    found = False
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            fresh = [line for path in files for line in _fresh(path, files)]
            wanted = [line for line in fresh if line >= after and re.search(rf"batch={re.escape(batch_id)}( |$)", line)]
            for line in sorted(wanted, key=lambda line: line[:19]):
                found = True
                context.say(line)
            if not follow:
                break
            time.sleep(LOOK_S)
    if not found and not follow:
        context.fail(f"the log files in {folder} have no line of batch {batch_id}")


def _fresh(path: Path, read: dict[Path, int]) -> Iterator[str]:
    """Yield the whole lines that were written since the last read. A file that is shorter now was replaced."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        start = read[path] if path.stat().st_size >= read[path] else 0
        file.seek(start)
        data = file.read()
        read[path] = start + data.rfind(b"\n") + 1
        for raw in data[: data.rfind(b"\n") + 1].split(b"\n"):
            line = raw.decode("utf-8", "backslashreplace")
            if _TIME.match(line):
                yield line
