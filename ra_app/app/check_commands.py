"""The command `flask check`, which each deploy runs before it restarts the app with new settings."""

from __future__ import annotations

from collections.abc import Callable

import click
import sqlalchemy as sa
from flask.cli import with_appcontext

from app.errors import ClipMissingError, StorageUnavailableError
from app.models import db
from app.pipeline import audio_files
from app.state import state


@click.command("check")
@with_appcontext
def check() -> None:
    """Ask Postgres and S3 with these settings, and print one line each.

    The exit code is 1 if one of them refuses or does not answer.
    """
    checks: dict[str, Callable[[], str]] = {"Postgres": _postgres, "S3": _s3}
    bad = 0
    for name, ask in checks.items():
        try:
            remark = ask()
        except sa.exc.DBAPIError as error:
            bad += 1
            click.echo(f"{name:9} {' '.join(str(error.orig).split())}; check DATABASE_URL")
        except StorageUnavailableError as error:
            bad += 1
            click.echo(f"{name:9} {error}; check S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY and S3_SECRET_KEY")
        else:
            click.echo(f"{name:9} good{remark and f'; {remark}'}")
    if bad:
        raise SystemExit(1)


def _postgres() -> str:
    db.session.execute(sa.text("SELECT 1"))
    return ""


def _s3() -> str:
    """Ask for the newest clip, because the keys need no right but to read clips."""
    newest = sa.select(audio_files.c.s3_opus_path).where(audio_files.c.s3_opus_path.is_not(None))
    try:
        key = db.session.scalar(newest.order_by(audio_files.c.audio_id.desc()).limit(1))
    except sa.exc.DBAPIError:  # the line of Postgres says why
        key = None
    if key is None:
        return state().audio.check_bucket()
    try:
        state().audio.head(key)
    except ClipMissingError as error:
        return str(error)
    return ""
