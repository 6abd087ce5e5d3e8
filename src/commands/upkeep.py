"""`audio-pipeline reconcile | expire`: commands for now and then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.progress import track

from commands.context import Context, counted
from commands.options import DryRun, Yes
from jobs.batches import Batches
from jobs.s3_keys import ARCHIVES
from recovery.finished_scratch import FinishedScratch


def reconcile(ctx: typer.Context, *, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Make Redis agree with Postgres and S3.

    Every batch that is not complete and has no jobs in Redis is unpacked again.

    Use it after Redis has lost its data, or after somebody deleted jobs by mistake. It shows what would change, asks,
    and changes it. Batches that are under way are not touched, clips that have results are skipped, and a second run
    changes nothing more.
    """
    context: Context = ctx.obj
    restarts = context.reconciler.plan(archives=True)
    for restart in restarts:
        context.say(f"{restart.job.batch_id}: {restart.reason}")
    if not restarts or dry_run:
        if not dry_run:
            context.reconciler.remember()
        context.say(
            f"{counted(len(restarts), 'batch', 'batches')} would be brought back"
            if restarts
            else "Redis agrees with Postgres"
        )
        return
    context.confirm(f"Unpack {counted(len(restarts), 'archive')} again?", yes=yes)
    if not yes:  # while the question waited for its answer, some may have been brought back
        asked_about = {restart.job.batch_id for restart in restarts}
        restarts = [
            restart for restart in context.reconciler.plan(archives=True) if restart.job.batch_id in asked_about
        ]
    names = [restart.job.batch_id for restart in restarts]
    with context.change("reconcile", "batches", len(names), {"batches": names}) as change:
        for restart in restarts:
            context.reconciler.apply([restart])
            change.affected += 1
        context.reconciler.remember()
    context.say(f"{counted(len(restarts), 'batch', 'batches')} brought back")


def expire(
    ctx: typer.Context,
    *,
    days: Annotated[float, typer.Option(min=0, help="Age of the archives, in days since their upload.")] = 7,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete old archives and leftover scratch directories.

    Deletes from S3 the archives of complete batches, and from this host's scratch the directories of finished batches.

    An archive whose batch is not complete is never deleted. Results stay, and so do clips that are parked with a dead
    letter.

    For example:

    - `audio-pipeline expire --dry-run`

    - `audio-pipeline expire --days 30 --yes`
    """
    context: Context = ctx.obj
    _expire_archives(context, days, dry_run=dry_run, yes=yes)
    _expire_scratch(context, dry_run=dry_run, yes=yes)


def _expire_archives(context: Context, days: float, *, dry_run: bool, yes: bool) -> None:
    complete = context.db.complete_archives()
    before = datetime.now(UTC) - timedelta(days=days)
    old = [key for key, at in context.s3.modified(ARCHIVES) if key in complete and at <= before]
    old_archives = f"{len(old)} archives of complete batches, {days:g} days old or older"
    if not old or dry_run:
        for key in old:
            context.say(f"would be deleted: {key}")
        context.say(old_archives)
        return
    context.confirm(f"Delete {old_archives}, from S3?", yes=yes)
    with context.change("expire archives", f"older than {days:g} days", len(old), {"keys": old}) as change:
        for key in track(old, "deleting", console=context.errors, transient=True):
            if key in context.db.complete_archives([key]):  # a batch that was requeued meanwhile needs its archive
                context.s3.delete(key)
                change.affected += 1
    context.say(f"{counted(change.affected, 'archive')} deleted")


def _expire_scratch(context: Context, *, dry_run: bool, yes: bool) -> None:
    root = context.settings.scratch_root
    finished = FinishedScratch(root, Batches(context.redis), context.db)
    leftovers = finished.leftovers()
    directories = counted(len(leftovers), "finished directory", "finished directories")
    if not leftovers or dry_run:
        context.say(f"{directories} on scratch ({root})")
        for batch_id in leftovers:
            context.say(f"  {batch_id}")
        return
    context.confirm(f"Remove {directories} from scratch ({root})?", yes=yes)
    with context.change("expire scratch", context.settings.host, len(leftovers), {"batches": leftovers}) as change:
        change.affected = len(finished.sweep())
    context.say(f"{counted(change.affected, 'finished directory', 'finished directories')} removed from scratch")
