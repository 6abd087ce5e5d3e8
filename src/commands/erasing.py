"""`audio-pipeline clip erase`: a clip whose author withdrew goes from everywhere that the pipeline has put it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from commands.context import Context, counted
from commands.options import AsJson, DryRun, Yes
from db import Erasures
from recovery.erasure import Erasure, Receipt


def add_to(app: typer.Typer) -> None:
    app.command("erase")(erase)


def erase(
    ctx: typer.Context,
    audio_id: Annotated[int, typer.Argument(metavar="AUDIO_ID", min=1, help="The clip's number.")],
    *,
    reason: Annotated[
        str, typer.Option(help="Why, for the receipt; without names of people: it is kept.", show_default=False)
    ],
    as_json: AsJson = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase a clip whose author withdrew, and print a receipt.

    The clip is cut out of its archive, so that a new run does not bring it back, with its row of the metadata. Its
    audio in S3, its dead letters, its text, its file name and its metadata go. Scores stay, without any text. A clip
    whose batch is under way is refused. Afterwards call `sudo ra-flask clips erase AUDIO_ID` for what the RA app holds.

    A second call changes nothing and prints the same receipt. Backups hold the clip until they expire.

    For example:

    - `audio-pipeline clip erase 4711 --reason "the author withdrew, letter of 3 November" --dry-run`
    """
    context: Context = ctx.obj
    scratch = context.settings.scratch_root
    erasure = Erasure(
        context.redis, Erasures(context.settings), context.s3, context.letters, context.audit,
        scratch if os.access(scratch, os.W_OK) else None,
    )  # fmt: skip
    done = erasure.receipt(audio_id)
    if done is None:
        plan = erasure.plan(audio_id)
        found = (
            f"clip {audio_id} of batch {plan.clip.batch_id}: {counted(len(plan.objects), 'object')} in S3, "
            f"{'an archive' if plan.clip.archive_key else 'no archive'}, {counted(len(plan.letters), 'dead letter')}"
        )
        if dry_run:
            context.say(f"would be erased: {found}")
            return
        context.confirm(f"Erase {found}? It cannot be undone.", yes=yes)
        done = erasure.erase(plan, reason)
    if as_json:
        context.json(done)
    else:
        _say(context, done)


def _say(context: Context, receipt: Receipt) -> None:
    context.say(f"clip {receipt['audio_id']} of batch {receipt['batch']} was erased at {receipt['at']}")
    context.say(f"reason: {receipt['reason']}")
    archive = receipt["archive"]
    if archive is None:
        context.say("archive: it came without one")
    else:
        context.say(
            f"archive {archive['key']}: {archive['state']}; {counted(archive.get('members', 0), 'member')} and "
            f"{counted(archive.get('metadata_rows', 0), 'metadata row')} removed"
        )
        for name in archive.get("unread_metadata", ()):
            context.say(f"look at {name} in the archive: it cannot be read in full, and may hold the clip's row")
    context.say(f"S3: {', '.join(receipt['objects']) or 'nothing'} deleted")
    context.say(f"Redis: {counted(receipt['dead_letters'], 'dead letter')} removed")
    rows = receipt["rows"]
    context.say(
        f"Postgres: name, metadata, hashes and {counted(rows['transcripts'], 'transcript')} emptied; "
        f"{counted(rows['verdicts'], 'verdict')} kept without a hash of the text"
    )
    for key in receipt["look_at"]:
        context.say(f"look at {key} in S3: it may be the clip; nothing says whose it is")
    for line in receipt["left"]:
        context.say(f"left: {line}")
