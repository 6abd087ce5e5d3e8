"""The commands `flask clips …`: what must go of a clip."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from app.models import db
from app.people.commands import clear_errors
from app.removal import erasing
from app.removal.erasing import NotErasedError

clip_group = AppGroup("clips", help="Erase what the app holds of a clip whose author withdrew.")

_WORDS = {
    "slots": "slots withdrawn",
    "items": "places in studies withdrawn",
    "drafts": "drafts deleted",
    "notes": "notes of labels emptied",
    "references": "reasons of references emptied",
    "decisions": "reasons of decisions emptied",
}


@clip_group.command("erase")
@click.argument("audio_id", type=click.IntRange(1, 2**63 - 1))
@clear_errors
def erase(audio_id: int) -> None:
    """Remove what the app holds of the clip AUDIO_ID, which the pipeline has erased, and print the receipt."""
    try:
        receipt = erasing.erase(audio_id)
    except NotErasedError as error:
        db.session.rollback()
        raise click.ClickException(str(error)) from error
    db.session.commit()
    click.echo(f"Receipt {receipt['receipt']}: clip {audio_id}, erased in the pipeline at {receipt['erased_at']}")
    for name, words in _WORDS.items():
        click.echo(f"  {receipt['changed'][name]} {words}")
    click.echo(f"  {receipt['labels_kept']} labels kept, without notes")
    names = ", ".join(receipt["exports"])
    click.echo(f"  exports that hold the clip, to be deleted wherever they were taken to: {names or 'none'}")
