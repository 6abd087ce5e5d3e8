"""`audio-pipeline batch`: list, show, requeue and cancel batches."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from commands.context import Context, ago, cell, counted, escape
from commands.options import AsJson, Yes
from db import BatchState, ClipState, WantedResults, wanted_results
from errors import ModelError, PolicyError
from jobs.job_queue import UNPACK, mapped_redis_errors
from jobs.queue_snapshot import standing_jobs
from recovery.batch_repairs import BatchRepairs

app = typer.Typer(no_args_is_help=True, help="List, show, requeue and cancel batches.")

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The batch id, as `batch list` shows it.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many to list at most.")] = 30,
    unfinished: Annotated[
        bool, typer.Option("--open", help="Only batches that are neither complete nor cancelled.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List batches, the newest first.

    DOUBTFUL counts the clips whose transcript may have gaps or wrong words, NOT JUDGED those in a language that is not
    judged. TOOK is the time from the archive's transfer to the last verdict.
    """
    context: Context = ctx.obj
    found = context.db.batches(limit=limit, unfinished=unfinished)
    if as_json:
        context.json([{**vars(batch), "state": batch.state} for batch in found])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("BATCH", "ARCHIVE", "STATE", "CLIPS", "DONE", "FAILED", "DOUBTFUL", "NOT JUDGED", "TOOK"):
        table.add_column(column, justify="left" if column in {"BATCH", "ARCHIVE", "STATE"} else "right")
    for batch in found:
        table.add_row(
            batch.batch_id, cell(batch.original_filename or ""), batch.state, str(batch.total), str(batch.done),
            str(batch.failed), str(batch.doubtful), str(batch.not_judged),
            _between(batch.transferred_at or batch.unpack_began_at, batch.completed_at),
        )  # fmt: skip
    context.console.print(table if found else "No batches.")
    with mapped_redis_errors():
        waiting = int(str(context.redis.llen(UNPACK)))
    if waiting:
        context.say(f"{counted(waiting, 'archive')} in queue:unpack")


@app.command()
def show(ctx: typer.Context, batch_id: BatchId, *, as_json: AsJson = False) -> None:
    """Show a batch and each of its clips.

    The batch with the time of each stage, and every clip with its state and times.

    WAITED is the time from the end of unpacking until the GPU worker began with the clip. HEARING and JUDGING are the
    seconds that WhisperX and CoPE-A took. The last column names the policies that flag a clip, why its transcript is
    doubtful, and why it has no verdict although somebody speaks.
    """
    context: Context = ctx.obj
    batch = known_batch(context, batch_id)
    clips = context.db.clips(batch_id)
    jobs = standing_jobs(context.redis, context.settings.scratch_root)
    where = {job.clip: "claimed" if job.in_flight else job.key for job in jobs if job.batch_id == batch_id}
    if as_json:
        rows = [{**vars(clip), "job": where.get(clip.clip)} for clip in clips]
        context.json({**vars(batch), "state": batch.state, "clips": rows})
        return
    for line in _stages(batch):
        context.say(line)
    table = Table(box=None, pad_edge=False)
    for column in ("ID", "CLIP", "STATE", "AUDIO", "WAITED", "HEARING", "JUDGING", "OUTCOME"):
        right = column in {"ID", "AUDIO", "WAITED", "HEARING", "JUDGING"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for clip in clips:
        table.add_row(
            str(clip.audio_id), cell(clip.clip), escape(where.get(clip.clip) or clip.status), _seconds(clip.duration_s),
            _waited(batch, clip), _seconds(clip.transcribe_s), _seconds(clip.classify_s),
            cell(clip.error or "; ".join(_outcomes(clip)), 160),
        )  # fmt: skip
    context.console.print(table)


@app.command()
def requeue(
    ctx: typer.Context,
    batch_id: BatchId,
    *,
    everything: Annotated[
        bool,
        typer.Option("--everything", help="Also clips that have all results; verdicts stay until new ones exist."),
    ] = False,
    yes: Yes = False,
) -> None:
    """Unpack a batch again and process its unfinished clips.

    The archive is unpacked again, and clips that lack a result are transcribed and judged. Results of another speech
    model, policy version or moderation model than the workers use now do not count. This also resumes a cancelled
    batch. The batch's dead letters are removed: each of their clips gets a result or a new letter.

    Labels that RAs have given stay, also with `--everything`.

    For example:

    - `audio-pipeline batch requeue 20250622-143052-a1b2c3`

    - `audio-pipeline batch requeue 20250622-143052-a1b2c3 --everything --yes`
    """
    context: Context = ctx.obj
    repairs = _repairs(context)
    plan = repairs.plan_requeue(batch_id, context.s3, everything=everything, wanted=_wanted(context))
    clips = "all its clips" if everything else "its clips that lack a result"
    context.confirm(f"Unpack {batch_id} again and do {clips} ({plan.clips})?", yes=yes)
    repairs.requeue(plan)
    context.say(f"{batch_id} stands in queue:unpack again")


@app.command()
def cancel(ctx: typer.Context, batch_id: BatchId, *, yes: Yes = False) -> None:
    """Cancel a batch.

    Its jobs are removed, also those that a worker has claimed. Clips that are done keep their results.

    The archive stays in S3. `batch requeue` resumes the batch where it stopped.
    """
    context: Context = ctx.obj
    repairs = _repairs(context)
    plan = repairs.plan_cancel(batch_id)
    clips = "all its clips" if plan.clips is None else counted(plan.clips, "clip")
    context.confirm(f"Cancel {batch_id}, with {clips} to do?", yes=yes)
    removed = repairs.cancel(plan)
    context.say(f"{batch_id} is cancelled; {counted(removed, 'job')} removed")


def known_batch(context: Context, batch_id: str) -> BatchState:
    """The batch as Postgres knows it; raises UnknownError when it does not."""
    return _repairs(context).known(batch_id)


def _wanted(context: Context) -> WantedResults | None:
    """The results that workers write with this host's settings; None on a host without the policies or the manifest."""
    try:
        return wanted_results(context.settings)
    except (ModelError, PolicyError):
        return None


def _repairs(context: Context) -> BatchRepairs:
    return BatchRepairs(context.redis, context.db, context.settings.scratch_root, context.audit)


def _stages(batch: BatchState) -> list[str]:
    """The stages of the batch with their times, one line each."""
    waited = _between(batch.transferred_at, batch.unpack_began_at)
    worked = f"{_between(batch.unpack_began_at, batch.unpacked_at)} of work"
    lines = [
        f"{batch.batch_id}: {batch.state}; {batch.done} of {batch.total} clips done, {batch.failed} failed",
        f"archive      {batch.original_filename or '–'}  {batch.s3_key or '(none: clips injected one by one)'}",
        f"transferred  {_at(batch.transferred_at)}",
        f"unpacked     {_at(batch.unpacked_at)}  on {batch.unpack_host or '–'}, after {waited} of waiting and {worked}",
        f"complete     {_at(batch.completed_at)}  {_between(batch.unpacked_at, batch.completed_at)} after unpacking",
    ]
    if batch.doubtful or batch.not_judged:
        not_judged = f"{counted(batch.not_judged, 'clip')} not judged for the language"
        lines.append(f"quality      {counted(batch.doubtful, 'doubtful transcript')}, {not_judged}")
    if batch.cancelled_at:
        lines.append(f"cancelled    {_at(batch.cancelled_at)}")
    if batch.metadata_matched is not None:
        lines.append(f"metadata     matched {batch.metadata_matched} of {batch.total} clips")
    lines += [f"metadata     {problem['of']}: {problem['reason']}" for problem in batch.metadata_problems]
    lines += [f"skipped      {member['name']}: {member['reason']}" for member in batch.skipped_members]
    return lines


def _outcomes(clip: ClipState) -> list[str]:
    found = [", ".join(clip.flagged)] if clip.flagged else []
    if clip.status == "done" and clip.not_judged:
        found.append(f"not judged: {clip.not_judged} {clip.language or 'unknown'}")
    if clip.status == "done" and clip.finding == "doubtful":
        found.append(f"doubtful ({', '.join(clip.reasons)})")
    return found


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
