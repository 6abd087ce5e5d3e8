"""`audio-pipeline inject`: check jobs and push them to the queues."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from commands.context import Context, counted
from commands.options import DryRun, Yes
from config import host_queue
from errors import PayloadError, PermanentError
from jobs.batches import Batches
from jobs.job_queue import UNPACK, mapped_redis_errors
from jobs.payloads import UnpackJob, parse_transcribe_job, parse_unpack_job
from jobs.queue_snapshot import standing_jobs
from jobs.s3_keys import ARCHIVES
from scratch import clip_files

app = typer.Typer(no_args_is_help=True, help="Check jobs and push them to the queues.")

Check = Callable[[Context, bytes], str]
FromFile = Annotated[
    Path | None,
    typer.Option("--file", exists=True, dir_okay=False, help="A file of payloads, one JSON object per line."),
]


@app.command()
def unpack(
    ctx: typer.Context,
    s3_key: Annotated[str | None, typer.Argument(metavar="KEY", help="The archive's key in S3.")] = None,
    batch_id: Annotated[str | None, typer.Option(help="Default: the archive's name without `.tar`.")] = None,
    file: FromFile = None,
    *,
    dry_run: DryRun = False,
) -> None:
    """Push unpack jobs for archives in S3.

    Clips that have results already are skipped.

    Every payload is checked first: its fields, that its archive is in S3, and that no job or batch has its id. If one
    of them is wrong, nothing is pushed.

    For example:

    - `audio-pipeline inject unpack archives/test-001.tar`

    - `audio-pipeline inject unpack --file payloads.jsonl --dry-run`
    """
    if (s3_key is None) == (file is None):
        raise typer.BadParameter("give either the archive's key in S3 or --file")
    if s3_key is not None:
        payloads = [UnpackJob(batch_id=batch_id or Path(s3_key).name.removesuffix(".tar"), s3_key=s3_key).to_json()]
    else:
        payloads = _lines(file)
    context: Context = ctx.obj
    awaited = {job.batch_id for job in standing_jobs(context.redis, context.settings.scratch_root)}
    _push(context, UNPACK, payloads, partial(_check_unpack, awaited), "inject unpack", dry_run=dry_run)


@app.command()
def transcribe(
    ctx: typer.Context,
    opus_path: Annotated[Path | None, typer.Argument(metavar="PATH", help="A file on this host's scratch.")] = None,
    batch_id: Annotated[str | None, typer.Option(help="Default: the clip's directory under the scratch root.")] = None,
    audio_id: Annotated[int | None, typer.Option(min=1, help="The clip's audio_id. Default: a new one.")] = None,
    file: FromFile = None,
    *,
    dry_run: DryRun = False,
) -> None:
    """Push jobs for clips on this host's scratch.

    This host's GPU worker transcribes and judges them.

    For example:

    - `audio-pipeline inject transcribe /data/scratch/test-001/audio.opus --audio-id 1`
    """
    if (opus_path is None) == (file is None):
        raise typer.BadParameter("give either the clip's path or --file")
    context: Context = ctx.obj
    payloads = [_payload(context, opus_path, batch_id, audio_id)] if opus_path is not None else _lines(file)
    queue = host_queue(context.settings.host)
    waiting = {(job.batch_id, job.clip) for job in standing_jobs(context.redis, context.settings.scratch_root)}
    _push(context, queue, payloads, partial(_check_transcribe, waiting), "inject transcribe", dry_run=dry_run)


@app.command()
def s3(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Option(help="Only archives whose keys begin with this.")] = ARCHIVES,
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Push unpack jobs for archives in S3 that never had one.

    These are the archives that Postgres does not know and that no queue holds.

    Example: `audio-pipeline inject s3 --prefix archives/20250622- --dry-run`
    """
    context: Context = ctx.obj
    payloads = [job.to_json() for job in context.reconciler.archives_without_batch() if job.s3_key.startswith(prefix)]
    if payloads and not dry_run:
        context.confirm(f"Push {counted(len(payloads), 'unpack job')}?", yes=yes)
    _push(context, UNPACK, payloads, lambda _, payload: payload.decode(), "inject s3", dry_run=dry_run)


def _payload(context: Context, opus_path: Path, batch_id: str | None, audio_id: int | None) -> bytes:
    """A clip's payload, with the batch id and clip name that the worker would otherwise take from the path."""
    path = opus_path.absolute()  # the worker has another working directory
    named = {"opus_path": str(path), "batch_id": batch_id, "audio_id": audio_id}
    payload = json.dumps({name: value for name, value in named.items() if value is not None}).encode()
    try:
        return parse_transcribe_job(payload, context.settings.scratch_root).to_json()
    except PayloadError:
        return payload  # the check before the push says what is wrong with it


def _lines(file: Path | None) -> list[bytes]:
    return [line.strip() for line in file.read_bytes().splitlines() if line.strip()] if file else []


def _check_unpack(awaited: set[str | None], context: Context, payload: bytes) -> str:
    job = parse_unpack_job(payload)
    if job.batch_id in awaited or Batches(context.redis).under_way(job.batch_id):
        raise PayloadError(f"batch {job.batch_id} is under way; see audio-pipeline batch show {job.batch_id}")
    batch = context.db.batch(job.batch_id)
    if batch and batch.cancelled_at:
        raise PayloadError(
            f"batch {job.batch_id} was cancelled; audio-pipeline batch requeue {job.batch_id} resumes it"
        )
    context.s3.size(job.s3_key)
    awaited.add(job.batch_id)
    return f"batch {job.batch_id} from {job.s3_key}"


def _check_transcribe(waiting: set[tuple[str | None, str | None]], context: Context, payload: bytes) -> str:
    job = parse_transcribe_job(payload, context.settings.scratch_root)
    clip = (job.batch_id, job.original_filename)
    if clip in waiting:
        raise PayloadError(f"{job.original_filename} of batch {job.batch_id} has a job already")
    if job.opus_s3_key:
        context.s3.size(job.opus_s3_key)
    elif problem := clip_files.problem(job.opus_path, context.settings.host):
        raise PayloadError(problem)
    waiting.add(clip)
    return f"{job.opus_path} of batch {job.batch_id}"


def _push(context: Context, queue: str, payloads: list[bytes], check: Check, action: str, *, dry_run: bool) -> None:
    """Check all payloads, then push them in one step; if a check fails, end the command and push nothing."""
    for number, payload in enumerate(payloads, start=1):
        try:
            found = check(context, payload)
        except (PayloadError, PermanentError) as error:
            shown = payload[:200].decode("utf-8", "backslashreplace")
            context.fail(f"nothing was pushed: payload {number} of {len(payloads)}: {error} ({shown})")
        if dry_run:
            context.say(f"would be pushed to {queue}: {found}")
    if payloads and not dry_run:
        with context.change(action, queue, len(payloads)) as change, mapped_redis_errors():
            context.redis.rpush(queue, *payloads)
            change.affected = len(payloads)
    context.say(f"{counted(len(payloads), 'job')} {'would be ' if dry_run else ''}pushed to {queue}")
