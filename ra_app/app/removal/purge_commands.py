"""The command `flask purge`: deletes closed studies by age or by name, and prints the receipt."""

from __future__ import annotations

import json

import click
from flask.cli import with_appcontext

from app.models import db
from app.people.commands import clear_errors
from app.removal import purging
from app.removal.purging import PurgeError


@click.command("purge")
@click.option(
    "--older-than", "days", type=click.IntRange(2, 36_500), metavar="DAYS", help="Studies closed so long ago."
)
@click.option("--study", metavar="NAME", help="One closed study.")
@click.option("--yes", is_flag=True, help="Delete. Without it, only what would go is printed.")
@with_appcontext
@clear_errors
def purge(days: int | None, study: str | None, yes: bool) -> None:
    """Delete labels and records of closed studies; counts stay in a receipt.

    Prints JSON: what would go, or with --yes the receipt. What goes and what stays is said in the guide for leads.
    """
    if (days is None) == (study is None):
        raise click.UsageError("Give either --older-than DAYS or --study NAME.")
    purging.begin()
    try:
        scope = purging.of_study(study) if study is not None else purging.older_than(days or 0)
        found = purging.purge(scope) if yes else {"would_delete": scope.subject, **purging.counted(scope)}
    except PurgeError as error:
        db.session.rollback()
        raise click.ClickException(str(error)) from error
    db.session.commit()
    click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    if not yes:
        click.echo("Nothing is deleted. Add --yes to delete this.", err=True)
