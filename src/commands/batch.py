"""`audio-pipeline batch`: every archive's way through the pipeline."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from commands.context import Context, ago, cell, counted, escape
from commands.options import AsJson, Yes
from db import BatchState, ClipState
from errors import PermanentError
from jobs.batches import Batches
from jobs.job_queue import UNPACK, mapped_redis_errors
from jobs.payloads import UnpackJob, parse_unpack_job
from jobs.queue_snapshot import standing_jobs

app = typer.Typer(no_args_is_help=True, help="Batches: list, show, requeue and cancel them.")

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="As `batch list` shows it.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 30,
    unfinished: Annotated[bool, typer.Option("--open", help="Only those of which something is still to come.")] = False,
    as_json: AsJson = False,
) -> None:
    """List batches, the newest first.

    TOOK is the time from the archive's transfer to the last verdict.
    """
    context: Context = ctx.obj
    found = context.db.batches(limit=limit, unfinished=unfinished)
    if as_json:
        context.json([{**vars(batch), "state": batch.state} for batch in found])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("BATCH", "ARCHIVE", "STATE", "CLIPS", "DONE", "FAILED", "TOOK"):
        table.add_column(column, justify="right" if column in {"CLIPS", "DONE", "FAILED", "TOOK"} else "left")
    for batch in found:
        table.add_row(
            batch.batch_id, cell(batch.original_filename or ""), batch.state, str(batch.total), str(batch.done),
            str(batch.failed), _between(batch.transferred_at or batch.unpack_began_at, batch.completed_at),
        )  # fmt: skip
    context.console.print(table if found else "No batches.")
    with mapped_redis_errors():
        waiting = int(str(context.redis.llen(UNPACK)))
    if waiting:
        context.say(f"{counted(waiting, 'archive')} in queue:unpack")


@app.command()
def show(ctx: typer.Context, batch_id: BatchId, *, as_json: AsJson = False) -> None:
    """Show a batch and each of its clips.

    Its way through the stages, and every clip with its state and the time that it spent in each.

    A clip WAITED from the end of unpacking until its GPU worker began with it; HEARING and JUDGING are the seconds that
    WhisperX and CoPE-A took.
    """
    context: Context = ctx.obj
    batch = known_batch(context, batch_id)
    clips = context.db.clips(batch_id)
    jobs = standing_jobs(context.redis)
    where = {job.clip: "in hand" if job.in_flight else job.key for job in jobs if job.batch_id == batch_id}
    if as_json:
        rows = [{**vars(clip), "job": where.get(clip.clip)} for clip in clips]
        context.json({**vars(batch), "state": batch.state, "clips": rows})
        return
    for line in _story(batch):
        context.say(line)
    table = Table(box=None, pad_edge=False)
    for column in ("ID", "CLIP", "STATE", "AUDIO", "WAITED", "HEARING", "JUDGING", "FLAGGED, OR WHY NOT"):
        right = column in {"ID", "AUDIO", "WAITED", "HEARING", "JUDGING"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for clip in clips:
        table.add_row(
            str(clip.audio_id), cell(clip.clip), escape(where.get(clip.clip) or clip.status), _seconds(clip.duration_s),
            _waited(batch, clip), _seconds(clip.transcribe_s), _seconds(clip.classify_s),
            cell(clip.error or ", ".join(clip.flagged), 160),
        )  # fmt: skip
    context.console.print(table)


@app.command()
def requeue(
    ctx: typer.Context,
    batch_id: BatchId,
    *,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also clips that have results; reviewers see them again when redone.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Do what is missing of a batch.

    Its archive is unpacked again, and its clips without results are done. Takes a cancelled batch up again, too. The
    batch's dead letters go: each of their clips gets a result, or a new letter.

    Labels that reviewers have given stay, with `--everything` too.

    For example:

    - `audio-pipeline batch requeue 20250622-143052-a1b2c3`

    - `audio-pipeline batch requeue 20250622-143052-a1b2c3 --everything --yes`
    """
    context: Context = ctx.obj
    batch = known_batch(context, batch_id)
    job = _unpack_job(context, batch)
    count = batch.total if everything else batch.total - batch.done
    what = "all its clips" if everything else "its clips without results"
    context.confirm(f"Unpack {batch_id} again and do {what} ({count})?", yes=yes)
    with context.change("batch requeue", batch_id, count, {"everything": everything}) as change:
        with context.db.reopened_batch(batch_id, everything=everything):
            Batches(context.redis).restart(job, context.letters.of_batch(batch_id))
        change.affected = count
    context.say(f"{batch_id} stands in queue:unpack again")


@app.command()
def cancel(ctx: typer.Context, batch_id: BatchId, *, yes: Yes = False) -> None:
    """Give a batch up.

    Its jobs are removed, also those in hand. What is done keeps its results.

    Its archive stays in S3, and `batch requeue` takes it up again where it stopped.
    """
    context: Context = ctx.obj
    waiting = _waiting_job(context, batch_id)
    if waiting is not None and context.db.batch(batch_id) is None:
        context.db.note_batch(parse_unpack_job(waiting))  # so that there is something to be marked as cancelled
    batch = known_batch(context, batch_id)
    if batch.completed_at:
        context.fail(f"batch {batch_id} is complete; there is nothing to cancel")
    todo = batch.total - batch.done - batch.failed
    what = counted(todo, "clip") if batch.unpacked_at else "all its clips"
    context.confirm(f"Cancel {batch_id}, with {what} to do?", yes=yes)
    with context.change("batch cancel", batch_id, todo) as change:
        with context.db.cancelled_batch(batch_id) as in_time:
            if not in_time:  # it was completed while the question stood
                context.fail(f"batch {batch_id} is complete; there is nothing to cancel")
            removed = Batches(context.redis).cancel(batch_id)
        change.affected = todo
    context.say(f"{batch_id} is cancelled; {counted(removed, 'job')} removed")


def known_batch(context: Context, batch_id: str) -> BatchState:
    """The batch as Postgres knows it; ends the command when it does not."""
    found = context.db.batch(batch_id)
    if found is None and _waiting_job(context, batch_id):
        context.fail(f"batch {batch_id} waits to be unpacked; Postgres knows it when a worker has begun with it")
    if found is None:
        context.fail(f"Postgres knows no batch {batch_id}; audio-pipeline batch list shows those it knows")
    return found


def _waiting_job(context: Context, batch_id: str) -> bytes | None:
    """Its job in queue:unpack, or one that was put off."""
    jobs = (job for job in standing_jobs(context.redis) if job.batch_id == batch_id and job.queue == UNPACK)
    return next((job.payload for job in jobs), None)


def _unpack_job(context: Context, batch: BatchState) -> UnpackJob:
    if batch.s3_key is None:
        context.fail(f"batch {batch.batch_id} has no archive: its clips were injected one by one; inject them again")
    try:
        context.s3.size(batch.s3_key)
    except PermanentError as error:
        context.fail(f"{error}; bring the archive back, or inject its clips")
    at = batch.transferred_at.isoformat() if batch.transferred_at else None
    return UnpackJob(
        batch_id=batch.batch_id, s3_key=batch.s3_key, original_filename=batch.original_filename, transferred_at=at
    )


def _story(batch: BatchState) -> list[str]:
    """The batch's way through the stages, one line each."""
    waited = _between(batch.transferred_at, batch.unpack_began_at)
    worked = f"{_between(batch.unpack_began_at, batch.unpacked_at)} of work"
    lines = [
        f"{batch.batch_id}: {batch.state}; {batch.done} of {batch.total} clips done, {batch.failed} failed",
        f"archive      {batch.original_filename or '–'}  {batch.s3_key or '(none: clips injected one by one)'}",
        f"transferred  {_at(batch.transferred_at)}",
        f"unpacked     {_at(batch.unpacked_at)}  on {batch.unpack_host or '–'}, after {waited} of waiting and {worked}",
        f"complete     {_at(batch.completed_at)}  {_between(batch.unpacked_at, batch.completed_at)} after unpacking",
    ]
    if batch.cancelled_at:
        lines.append(f"cancelled    {_at(batch.cancelled_at)}")
    if batch.metadata_matched is not None:
        lines.append(f"metadata     matched {batch.metadata_matched} of {batch.total} clips")
    lines += [f"metadata     {problem['of']}: {problem['reason']}" for problem in batch.metadata_problems]
    lines += [f"skipped      {member['name']}: {member['reason']}" for member in batch.skipped_members]
    return lines


def _waited(batch: BatchState, clip: ClipState) -> str:
    if clip.processed_at is None:
        return ""
    worked = timedelta(seconds=(clip.transcribe_s or 0) + (clip.classify_s or 0))
    ready = max(batch.unpacked_at or clip.recorded_at, clip.recorded_at)
    return _between(ready, max(ready, clip.processed_at - worked))


def _at(time_: datetime | None) -> str:
    return "–" if time_ is None else f"{time_.astimezone():%Y-%m-%d %H:%M:%S}"


def _between(start: datetime | None, end: datetime | None) -> str:
    return ago(max(0.0, (end - start).total_seconds())) if start and end else "–"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
