"""`audio-pipeline clip`: stored clips."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.context import NEEDS_A_PERSON, Context, counted
from commands.options import DryRun, Yes
from commands.policy import bar
from commands.policy_archive import INTERRUPTED
from db import LevelArchive, StoredClip
from errors import PermanentError, UnknownError
from system import shown

app = typer.Typer(no_args_is_help=True, help="Stored clips: measure those of earlier releases, erase one.")


@app.callback()
def clips() -> None:
    """Stored clips: measure those of earlier releases, erase one."""


@app.command()
def waveforms(
    ctx: typer.Context,
    *,
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Only clips of this batch.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Measure the stored clips that have no waveform and no loudness.

    Workers measure every clip that they process. Clips that an earlier release finished have no waveform until this
    command, or a worker that does them again, has measured them. It reads their Opus files from S3. After Ctrl-C all
    that was measured so far is stored; the same command continues. Workers go on meanwhile.

    For example:

    - `audio-pipeline clip waveforms --dry-run`

    - `audio-pipeline clip waveforms --batch 20250622-143052-a1b2c3 --yes`
    """
    context: Context = ctx.obj
    if batch is not None and context.db.batch(batch) is None:
        raise UnknownError(f"Postgres knows no batch {batch}; audio-pipeline batch list shows those that it knows")
    archive = LevelArchive(context.settings)
    planned = archive.count_without_levels(batch)
    if not planned or dry_run:
        context.say(
            f"{counted(planned, 'clip')} would be measured"
            if planned
            else "Every stored clip has a waveform and its levels."
        )
        return
    context.confirm(f"Measure {counted(planned, 'clip')}?", yes=yes)
    _measure(context, archive, batch, planned)


def _measure(context: Context, archive: LevelArchive, batch: str | None, planned: int) -> None:
    from recovery.missing_levels import Progress, measure  # with numpy and boto3, which other commands do not load

    done = Progress()

    def complain(clip: StoredClip, error: PermanentError) -> None:
        said = f"{clip.original_filename} of batch {clip.batch_id} is not measured: {error}"
        context.errors.print(shown.one_line(said), markup=False)

    try:
        with (
            context.change("clip waveforms", batch or "all batches", planned) as change,
            bar(context, "measure", planned) as advance,
        ):

            def report() -> None:
                change.affected = done.measured
                advance(1)

            measure(archive, context.s3, batch, done, complain, report)
    except KeyboardInterrupt:
        context.fail(f"stopped; {counted(done.measured, 'clip')} measured; the same command continues", INTERRUPTED)
    context.say(f"{counted(done.measured, 'clip')} measured")
    if done.failed:
        context.fail(f"{counted(done.failed, 'clip')} could not be measured; see above", NEEDS_A_PERSON)
