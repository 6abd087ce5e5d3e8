"""`audio-pipeline failed`: list, show, retry, drop and export dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress
from rich.table import Table

from commands.context import NEEDS_A_PERSON, Context, cell, counted
from commands.options import AsJson, DryRun, Yes
from jobs.dead_letters import id_of
from jobs.letter_filter import LetterFilter
from monitoring.overview import cause
from recovery.letter_repairs import DropPlan, LetterRepairs
from system import shown

app = typer.Typer(no_args_is_help=True, help="List, show, retry, drop and export dead letters.")

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `failed list` shows them.")]
Cause = Annotated[
    str | None,
    typer.Option("--cause", metavar="TEXT", help="Letters whose error contains this text, in upper or lower case."),
]
Stage = Annotated[Literal["unpack", "gpu"] | None, typer.Option("--stage", help="Letters of jobs that failed there.")]
Batch = Annotated[str | None, typer.Option("--batch", metavar="BATCH", help="Letters of this batch.")]
Older = Annotated[str | None, typer.Option("--older", metavar="AGE", help="Letters older than `30m`, `12h` or `7d`.")]
Everything = Annotated[bool, typer.Option("--all", help="Every dead letter.")]


CLIP_CHARS, WHY_CHARS = 60, 160  # width of a table's cells; `failed show` shows the whole
NAMED = 5  # S3 keys that are listed; of the others only the number is said


def _filter(
    ids: list[str] | None, cause_: str | None, stage: str | None, batch: str | None, older: str | None,
    everything: bool = False,
) -> LetterFilter:  # fmt: skip
    try:
        return LetterFilter(
            ids=tuple(ids or ()), cause=cause_, stage=stage, batch=batch, older=_older(older), everything=everything
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _choice(wanted: LetterFilter) -> LetterFilter:
    """The filter of a command that changes something: it must choose."""
    if not wanted.given:
        raise typer.BadParameter("choose letters by id, --cause, --stage, --batch or --older, or all of them by --all")
    return wanted


def _older(text: str | None) -> timedelta | None:
    if text is None:
        return None
    units = {"m": "minutes", "h": "hours", "d": "days"}
    age = None
    with suppress(KeyError, ValueError, IndexError, OverflowError):
        age = timedelta(**{units[text[-1]]: float(text[:-1])})
    if age is None or age < timedelta(0):
        raise typer.BadParameter(f"{text!r} is not an age; examples: 30m, 12h, 7d", param_hint="--older")
    return age


def _repairs(context: Context) -> LetterRepairs:
    return LetterRepairs(context.redis, context.db, context.letters, context.audit)


@contextmanager
def _progress(context: Context, description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error -> a function that moves it on by one."""
    with Progress(console=context.errors, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


@app.command("list")
def list_(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage: Stage = None, batch: Batch = None,
    older: Older = None, *, as_json: AsJson = False,
) -> None:  # fmt: skip
    """List dead letters, the oldest first.

    For example:

    - `audio-pipeline failed list --stage unpack --older 1d`

    - `audio-pipeline failed list --cause "holds no audio" --json | jq -r .[].clip`
    """
    context: Context = ctx.obj
    wanted = _filter(ids, cause_, stage, batch, older)
    letters = _repairs(context).find(wanted)
    if as_json:
        context.json([{"id": letter.id, **letter.fields} for letter in letters])
        return
    foreign = [] if wanted.given else context.letters.foreign()
    table = Table(box=None, pad_edge=False)
    for column in ("ID", "FAILED AT", "IN", "BATCH", "CLIP", "WHY"):
        table.add_column(column, no_wrap=column == "ID", overflow="fold")
    for letter in letters:
        at = str(letter.fields.get("failed_at", ""))[:19].replace("T", " ")
        table.add_row(
            letter.id, cell(at), letter.stage, cell(letter.batch_id or "", 40), cell(letter.clip or "", CLIP_CHARS),
            cell(letter.error, WHY_CHARS),
        )  # fmt: skip
    for raw in foreign:
        table.add_row(id_of(raw), "", "?", "", "", cell(f"not a dead letter: {_text(raw)}", WHY_CHARS))
    context.console.print(table if letters or foreign else "No dead letters.")
    if foreign:
        context.say(_foreign_entries(len(foreign)))


@app.command()
def show(
    ctx: typer.Context, id_: Annotated[str, typer.Argument(metavar="ID", help="As `failed list` shows it.")]
) -> None:
    """Show everything that a dead letter says.

    It shows the payload of the job, the whole error message, and the worker and time of the failure.
    """
    context: Context = ctx.obj
    found = _repairs(context).find(LetterFilter(ids=(id_,)))
    foreign = [raw for raw in context.letters.foreign() if id_of(raw) == id_]
    if foreign and not found:
        context.say(f"{'id':15} {id_}")
        context.say(f"{'entry':15} {_text(foreign[0])}")
        context.say("It is not a dead letter, so it cannot be retried; audio-pipeline failed drop removes it")
        return
    if not found:
        context.fail(f"no dead letter has the id {id_}; audio-pipeline failed list shows them")
    letter = found[0]
    for name, value in {"id": letter.id, "stage": letter.stage, "cause": cause(letter), **letter.fields}.items():
        context.say(f"{name:15} {value if isinstance(value, str) else shown.as_json(value)}")


@app.command()
def retry(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage: Stage = None, batch: Batch = None,
    older: Older = None, *, everything: Everything = False, dry_run: DryRun = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Put the jobs of dead letters back into their queues.

    Each job gets all its attempts again.

    A retry also works after the batch's scratch directory is gone, and on any host: the failed clip is parked in S3.
    Each letter is moved in one step. If the command is cut off, call it again: no job is lost or doubled.

    For example:

    - `audio-pipeline failed retry 3f9c2b7a10`

    - `audio-pipeline failed retry --cause "worker died" --dry-run`

    - `audio-pipeline failed retry --all --yes`
    """
    context: Context = ctx.obj
    repairs = _repairs(context)
    wanted = _choice(_filter(ids, cause_, stage, batch, older, everything))
    plan = repairs.plan_retry(wanted)
    letters = counted(len(plan.letters), "dead letter")
    if not plan.letters or dry_run:
        context.say(f"{letters} would be brought back" if plan.letters else f"No dead letters are {wanted}.")
        return
    context.confirm(f"Retry {letters} ({wanted})?", yes=yes)
    with _progress(context, "retry", len(plan.letters)) as on_progress:
        retried = repairs.retry(plan, on_progress)
    gone = f"; {retried.already_gone} were gone already" if retried.already_gone else ""
    context.say(f"{counted(retried.brought_back, 'dead letter')} brought back{gone}")
    for stuck in retried.stuck:
        context.say(f"{stuck.letter.id} stays: {stuck.reason}; {stuck.advice}")
    if retried.stuck:
        raise typer.Exit(NEEDS_A_PERSON)


@app.command()
def drop(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage: Stage = None, batch: Batch = None,
    older: Older = None, *, everything: Everything = False,
    foreign: Annotated[bool, typer.Option("--foreign", help="The entries that are not dead letters.")] = False,
    dry_run: DryRun = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Remove dead letters from `queue:failed`.

    When an archive's letter is dropped, its batch is cancelled, as by `batch cancel`; only `batch requeue` resumes it.
    Archives and parked clips stay in S3, failed clips stay in Postgres, and the command says which. To keep a copy of
    the letters, call `failed export` first.

    Entries of `queue:failed` that are not dead letters are removed by their id, or all of them by `--foreign`.

    For example:

    - `audio-pipeline failed export gone.jsonl --older 7d`

    - `audio-pipeline failed drop --cause "holds no audio" --older 7d`
    """
    context: Context = ctx.obj
    repairs = _repairs(context)
    wanted = _filter(ids, cause_, stage, batch, older, everything)
    plan = repairs.plan_drop(wanted if foreign else _choice(wanted), foreign=foreign)
    entries, count = _entries(plan), len(plan.letters) + len(plan.foreign)
    if not count:
        context.say("No entry is foreign." if foreign and not wanted.given else f"No dead letters are {wanted}.")
    elif dry_run:
        context.say(f"{entries} would be dropped")
        _say_consequences(context, plan, "would be")
    else:
        context.confirm(f"Drop {entries} ({plan.subject})?", yes=yes)
        with _progress(context, "drop", count) as on_progress:
            gone = count - repairs.drop(plan, on_progress)
        context.say(f"{entries} dropped" + (f"; {gone} of them were gone already" if gone else ""))
        _say_consequences(context, plan, "is")
    if plan.foreign_left:
        context.say(_foreign_entries(plan.foreign_left))


@app.command()
def export(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Replaced if it exists; one JSON object per line.")],
    ids: Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="As `failed list` shows it.")] = None,
    cause_: Cause = None, stage: Stage = None, batch: Batch = None, older: Older = None,
) -> None:  # fmt: skip
    """Write dead letters to a file.

    They also stay in `queue:failed`.
    """
    context: Context = ctx.obj
    letters = _repairs(context).find(_filter(ids, cause_, stage, batch, older))
    lines = [shown.as_json({"id": letter.id, **letter.fields}) + "\n" for letter in letters]
    try:
        target.write_bytes("".join(lines).encode(errors="backslashreplace"))
    except OSError as error:
        context.fail(f"{target} cannot be written ({error.strerror}); nothing was exported")
    context.say(f"{counted(len(letters), 'dead letter')} written to {target}")


def _entries(plan: DropPlan) -> str:
    """How many entries the plan removes, in words."""
    parts = [counted(len(plan.letters), "dead letter")] if plan.letters else []
    parts += [counted(len(plan.foreign), "foreign entry", "foreign entries")] if plan.foreign else []
    return " and ".join(parts)


def _say_consequences(context: Context, plan: DropPlan, verb: str) -> None:
    """What the drop changes besides the letters, and what stays."""
    for job in plan.cancelled:
        context.say(f"batch {job.batch_id} {verb} cancelled; audio-pipeline batch requeue {job.batch_id} resumes it")
    keys = [job.s3_key for job in plan.archives]
    keys += [letter.parked_s3_key for letter in plan.letters if letter.parked_s3_key]
    if keys:
        more = f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else ""
        context.say(f"left in S3: {', '.join(keys[:NAMED])}{more}")
    if clips := sum(letter.counted is not None for letter in plan.letters):
        context.say(f"left in Postgres: {counted(clips, 'failed clip')}")


def _foreign_entries(count: int) -> str:
    entries = counted(count, "entry is not a dead letter", "entries are not dead letters")
    return f"{entries}; audio-pipeline failed show ID shows one, audio-pipeline failed drop --foreign removes all"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
