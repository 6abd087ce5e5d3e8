"""`audio-pipeline reconcile | expire`: what is done now and then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.progress import track

from commands.context import Context, counted
from commands.options import DryRun, Yes
from jobs.batches import Batches
from jobs.s3_keys import ARCHIVES
from scratch import directories as scratch


def reconcile(ctx: typer.Context, *, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Make Redis agree with Postgres and S3.

    What is neither complete nor on its way is unpacked again.

    For after Redis has lost its memory, or a hand has slipped. It shows what would change, asks, and changes it.
    Nothing that is under way is touched, clips that are done are skipped, and a second run changes nothing more.
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
    context.confirm(f"Unpack {len(restarts)} archives again?", yes=yes)
    if not yes:  # some may have found their way while the question stood
        shown = {restart.job.batch_id for restart in restarts}
        restarts = [restart for restart in context.reconciler.plan(archives=True) if restart.job.batch_id in shown]
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
    """Delete what is old and finished.

    Archives of complete batches in S3, and what finished batches have left on this host's scratch.

    An archive whose batch is not complete is never deleted, however old. Results, and clips that were parked with a
    dead letter, stay.

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
    what = f"archives of complete batches, {days:g} days old or older"
    if not old or dry_run:
        for key in old:
            context.say(f"would be deleted: {key}")
        context.say(f"{len(old)} {what}")
        return
    context.confirm(f"Delete {len(old)} {what}, from S3?", yes=yes)
    with context.change("expire archives", f"older than {days:g} days", len(old), {"keys": old}) as change:
        for key in track(old, "deleting", console=context.errors, transient=True):
            if key in context.db.complete_archives([key]):  # one that was requeued meanwhile is needed again
                context.s3.delete(key)
                change.affected += 1
    context.say(f"{counted(change.affected, 'archive')} deleted")


def _expire_scratch(context: Context, *, dry_run: bool, yes: bool) -> None:
    batches, root = Batches(context.redis), context.settings.scratch_root

    def in_use(batch_id: str) -> bool:
        return batches.under_way(batch_id) or context.db.batch_finished(batch_id) is False

    over = scratch.leftovers(root, in_use)
    if not over or dry_run:
        context.say(f"{counted(len(over), 'finished directory', 'finished directories')} on scratch ({root})")
        for name in over:
            context.say(f"  {name}")
        return
    context.confirm(
        f"Remove {counted(len(over), 'finished directory', 'finished directories')} from scratch ({root})?", yes=yes
    )
    with context.change("expire scratch", context.settings.host, len(over), {"batches": over}) as change:
        change.affected = len(scratch.sweep(root, in_use))
    context.say(f"{counted(change.affected, 'finished directory', 'finished directories')} removed from scratch")
