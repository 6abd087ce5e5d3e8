"""The command `flask codebook publish`, which each deploy runs after `flask db upgrade`."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from app.codebooks.published import publish
from app.errors import CodebookChangedError
from app.people.commands import clear_errors
from app.state import state

codebook = AppGroup("codebook", help="Keep the versions of the codebook in the database.")


@codebook.command("publish")
@clear_errors
def publish_() -> None:
    """Store this release's codebook under its version, or check that it is the one that is stored."""
    book = state().codebook
    try:
        new = publish(book)
    except CodebookChangedError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{'Published' if new else 'Known:'} the codebook {book.id}, version {book.version}.")
