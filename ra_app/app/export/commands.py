"""The commands `flask exports …`: the process that makes exports, and a list of them."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from threading import Event

import click
from flask import current_app
from flask.cli import AppGroup

from app.people.commands import clear_errors

exports = AppGroup("exports", help="Make the exports that leads have ordered, and list them.")


@exports.command("work")
@click.option("--once", is_flag=True, help="End when no export waits.")
@clear_errors
def work(once: bool) -> None:
    """Make exports until SIGTERM or Ctrl-C: the process behind the page Exports."""
    from app.export import worker  # with pyarrow, which the web process does not need

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    stop = Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    root: Path = current_app.config["RA_EXPORTS"]
    try:
        worker.work(root, stop, once=once)
    except OSError as error:
        raise click.ClickException(f"RA_EXPORTS is {root}, but this folder cannot be used: {error.strerror}") from error


@exports.command("list")
@clear_errors
def list_() -> None:
    """List the exports, the newest first."""
    from app.export import orders

    for export, by in orders.newest(100):
        click.echo(f"{export.name:<32}{export.state:<10}{by or '-':<20}{export.made_at:%Y-%m-%d %H:%M}")
