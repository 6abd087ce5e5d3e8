"""`audio-pipeline inject`: put jobs into the queues, checked before they are pushed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batches import Batches
from commands.context import Context
from errors import PipelineError
from job_queue import UNPACK, mapped_redis_errors
from payloads import TranscribeJob, UnpackJob, parse_transcribe_job, parse_unpack_job

app = typer.Typer(no_args_is_help=True, help="Put jobs into the queues: unpack, transcribe, s3.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check, and say what would be pushed.")]
FromFile = Annotated[
    Path | None, typer.Option("--file", exists=True, dir_okay=False, help="Payloads, one JSON a line.")
]


@app.command()
def unpack(
    ctx: typer.Context,
    s3_key: Annotated[str | None, typer.Argument(help="For example archives/test-001.tar")] = None,
    batch_id: Annotated[str | None, typer.Option(help="Default: the archive's name.")] = None,
    file: FromFile = None,
    *,
    dry_run: DryRun = False,
) -> None:
    """Let an archive in S3 be unpacked. Clips that have results are skipped.

    Examples:
        audio-pipeline inject unpack archives/test-001.tar

        audio-pipeline inject unpack --file payloads.jsonl --dry-run
    """
    context: Context = ctx.obj
    if file is not None:
        payloads = _lines(file)
    elif s3_key is not None:
        job = UnpackJob(batch_id=batch_id or Path(s3_key).name.removesuffix(".tar"), s3_key=s3_key)
        payloads = [job.to_json()]
    else:
        raise typer.BadParameter("say the archive's key in S3, or --file")
    for payload in payloads:
        _checked(context, payload, _check_unpack)
    _push(context, UNPACK, payloads, "inject unpack", dry_run=dry_run)


@app.command()
def transcribe(
    ctx: typer.Context,
    opus_path: Annotated[Path | None, typer.Argument(help="A file under SCRATCH_ROOT of this host.")] = None,
    batch_id: Annotated[str | None, typer.Option(help="Default: the directory that holds it.")] = None,
    audio_id: Annotated[int | None, typer.Option(help="The clip's number; default: a new one.")] = None,
    file: FromFile = None,
    *,
    dry_run: DryRun = False,
) -> None:
    """Let a clip on this host's scratch be transcribed and judged.

    Example:
        audio-pipeline inject transcribe /data/scratch/test-001/audio.opus --audio-id 1
    """
    context: Context = ctx.obj
    if file is not None:
        payloads = _lines(file)
    elif opus_path is not None:
        job = TranscribeJob(
            opus_path=opus_path, batch_id=batch_id or opus_path.parent.name, original_filename=opus_path.name,
            audio_id=audio_id,
        )  # fmt: skip
        payloads = [job.to_json()]
    else:
        raise typer.BadParameter("say the clip's path, or --file")
    for payload in payloads:
        _checked(context, payload, _check_transcribe)
    _push(context, f"queue:transcribe:{context.settings.host}", payloads, "inject transcribe", dry_run=dry_run)


@app.command()
def s3(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Option(help="Where archives lie.")] = "archives/",
    *,
    dry_run: DryRun = False,
) -> None:
    """Give every archive in S3 that has never had a job its job."""
    from reconcile import Reconciler

    context: Context = ctx.obj
    reconciler = Reconciler(context.redis, context.db, context.s3, context.letters)
    jobs = [job for job in reconciler.archives_without_batch() if job.s3_key.startswith(prefix)]
    _push(context, UNPACK, [job.to_json() for job in jobs], "inject s3", dry_run=dry_run)


def _lines(file: Path) -> list[bytes]:
    return [line for line in file.read_bytes().splitlines() if line.strip()]


def _checked(context: Context, payload: bytes, check: object) -> None:
    try:
        check(context, payload)  # type: ignore[operator]
    except PipelineError as error:
        context.fail(f"not pushed: {error} (payload: {payload[:200].decode('utf-8', 'backslashreplace')})")


def _check_unpack(context: Context, payload: bytes) -> None:
    job = parse_unpack_job(payload)
    context.s3.size(job.s3_key)
    if Batches(context.redis).under_way(job.batch_id):
        context.fail(f"not pushed: batch {job.batch_id} is under way; see audio-pipeline batch show {job.batch_id}")


def _check_transcribe(context: Context, payload: bytes) -> None:
    job = parse_transcribe_job(payload, context.settings.scratch_root)
    if not job.opus_s3_key and not job.opus_path.is_file():
        context.fail(f"not pushed: there is no file {job.opus_path} on this host ({context.settings.host})")


def _push(context: Context, queue: str, payloads: list[bytes], action: str, *, dry_run: bool) -> None:
    if dry_run:
        for payload in payloads:
            context.console.print(f"would push to {queue}: {payload.decode()}", markup=False)
        return
    if payloads:
        with mapped_redis_errors():
            context.redis.rpush(queue, *payloads)
        context.record(action, queue, len(payloads))
    context.console.print(f"{len(payloads)} jobs pushed to {queue}")
