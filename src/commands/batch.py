"""`audio-pipeline batch`: every archive's way through the pipeline."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from batches import Batches
from commands.context import Context, ago
from db_overview import BatchState
from errors import PermanentError
from payloads import UnpackJob
from queue_snapshot import standing_jobs

app = typer.Typer(no_args_is_help=True, help="Batches: list, show, requeue, cancel.")

BatchId = Annotated[str, typer.Argument(metavar="BATCH")]
AsJson = Annotated[bool, typer.Option("--json")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    *,
    limit: Annotated[int, typer.Option(help="So many, the newest first.")] = 30,
    unfinished: Annotated[bool, typer.Option("--open", help="Only those that are not complete.")] = False,
    as_json: AsJson = False,
) -> None:
    """List batches, the newest first."""
    context: Context = ctx.obj
    found = context.db.batches(limit=limit, unfinished=unfinished)
    if as_json:
        context.json([vars(batch) for batch in found])
        return
    table = Table("BATCH", "ARCHIVE", "STATE", "CLIPS", "DONE", "FAILED", "TOOK", box=None, pad_edge=False)
    for batch in found:
        table.add_row(
            batch.batch_id, escape(batch.original_filename or ""), _state(batch), str(batch.total), str(batch.done),
            str(batch.failed), ago(_seconds(batch.unpacked_at, batch.completed_at)),
        )  # fmt: skip
    context.console.print(table if found else "No batches.")


@app.command()
def show(ctx: typer.Context, batch_id: BatchId, *, as_json: AsJson = False) -> None:
    """Show a batch: every clip with its state, and the time in each stage."""
    context: Context = ctx.obj
    batch = _batch(context, batch_id)
    clips = context.db.clips(batch_id)
    where = {
        job.clip: "in hand" if job.in_flight else job.key
        for job in standing_jobs(context.redis)
        if job.batch_id == batch_id
    }
    if as_json:
        context.json({**vars(batch), "clips": [{**vars(clip), "job": where.get(clip.clip)} for clip in clips]})
        return
    console = context.console
    console.print(
        f"[bold]{batch_id}[/bold]  {_state(batch)}  archive {escape(str(batch.original_filename))}  {batch.s3_key}"
    )
    console.print(
        f"transferred {_at(batch.transferred_at)}, unpacked {_at(batch.unpacked_at)} on {batch.unpack_host}, "
        f"complete {_at(batch.completed_at)}; {batch.done} of {batch.total} done, {batch.failed} failed"
    )
    table = Table(
        "ID", "CLIP", "STATE", "SECONDS", "WAITED AND WORKED", "FLAGGED, OR WHY NOT", box=None, pad_edge=False
    )
    for clip in clips:
        took = ago(_seconds(clip.recorded_at, clip.processed_at))
        seconds = "" if clip.duration_s is None else f"{clip.duration_s:.1f}"
        why = escape(clip.error or ", ".join(clip.flagged))
        table.add_row(str(clip.audio_id), escape(clip.clip), where.get(clip.clip, clip.status), seconds, took, why)
    console.print(table)
    for member in batch.skipped_members:
        console.print(f"skipped {escape(str(member['name']))}: {escape(str(member['reason']))}")


@app.command()
def requeue(
    ctx: typer.Context,
    batch_id: BatchId,
    *,
    everything: Annotated[bool, typer.Option("--everything", help="Also clips that have results.")] = False,
    yes: Yes = False,
) -> None:
    """Unpack a batch's archive again and do what is missing. A cancelled batch is taken up again."""
    context: Context = ctx.obj
    batch = _batch(context, batch_id)
    job = _unpack_job(context, batch)
    count = batch.total if everything else batch.total - batch.done
    what = "all its clips" if everything else "the clips without results"
    context.confirm(f"Requeue {batch_id} and do {what} ({count})?", yes=yes)
    context.db.reopen_batch(batch_id, everything=everything)
    stale = [found for found in standing_jobs(context.redis) if found.batch_id == batch_id and not found.in_flight]
    Batches(context.redis).restart(job, stale)
    context.record("batch requeue", batch_id, count, {"everything": everything})
    context.console.print(f"{batch_id} stands in queue:unpack again")


@app.command()
def cancel(ctx: typer.Context, batch_id: BatchId, *, yes: Yes = False) -> None:
    """Give a batch up: its jobs are removed, what is done keeps its results. `batch requeue` takes it up again."""
    context: Context = ctx.obj
    batch = _batch(context, batch_id)
    if batch.completed_at:
        context.fail(f"batch {batch_id} is complete; there is nothing to cancel")
    context.confirm(f"Cancel {batch_id} with {batch.total - batch.done - batch.failed} clips to do?", yes=yes)
    context.db.cancel_batch(batch_id)
    stale = [found for found in standing_jobs(context.redis) if found.batch_id == batch_id]
    Batches(context.redis).cancel(batch_id, stale)
    context.db.cancel_batch(batch_id)  # again: a run of unpack that was in hand may have begun in between
    context.record("batch cancel", batch_id, len(stale))
    context.console.print(f"{batch_id} is cancelled; {len(stale)} jobs removed")


def _batch(context: Context, batch_id: str) -> BatchState:
    found = context.db.batch(batch_id)
    if found is None:
        context.fail(f"Postgres knows no batch {batch_id}; see audio-pipeline batch list")
    return found


def _unpack_job(context: Context, batch: BatchState) -> UnpackJob:
    if batch.s3_key is None:
        context.fail(f"batch {batch.batch_id} has no archive; its clips were injected one by one")
    try:
        context.s3.size(batch.s3_key)
    except PermanentError as error:
        context.fail(str(error))
    at = batch.transferred_at.isoformat() if batch.transferred_at else None
    return UnpackJob(
        batch_id=batch.batch_id, s3_key=batch.s3_key, original_filename=batch.original_filename, transferred_at=at
    )


def _state(batch: BatchState) -> str:
    if batch.completed_at:
        return "complete"
    if batch.cancelled_at:
        return "cancelled"
    return "under way" if batch.unpacked_at else "not unpacked"


def _at(time: datetime | None) -> str:
    return "–" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None
