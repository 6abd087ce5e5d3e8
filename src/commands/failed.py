"""`audio-pipeline failed`: look at dead letters, bring them back, or let them go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import track
from rich.table import Table

from commands.context import NEEDS_A_PERSON, Context, cell, counted
from commands.options import AsJson, DryRun, Yes
from errors import HostGoneError, PayloadError
from jobs.batches import Batches
from jobs.dead_letters import DeadLetter, id_of
from jobs.payloads import UnpackJob, parse_unpack_job
from jobs.queue_snapshot import standing_jobs
from monitoring.overview import cause, stage
from system import shown

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, retry or drop them.")

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `failed list` shows them.")]
Cause = Annotated[str | None, typer.Option("--cause", metavar="TEXT", help="Whose error has this text, in any case.")]
Stage = Annotated[Literal["unpack", "gpu"] | None, typer.Option("--stage", help="Where they failed.")]
Batch = Annotated[str | None, typer.Option("--batch", metavar="BATCH", help="Of this batch.")]
Older = Annotated[str | None, typer.Option("--older", metavar="AGE", help="Older than `30m`, `12h` or `7d`.")]
Everything = Annotated[bool, typer.Option("--all", help="Every letter.")]


CLIP_CHARS, WHY_CHARS = 60, 160  # of a table's cells; `failed show` has the whole
NAMED = 5  # S3 keys that are named one by one


@dataclass(frozen=True)
class Filter:
    ids: tuple[str, ...]
    cause: str | None
    stage: str | None
    batch: str | None
    older: timedelta | None
    everything: bool

    def __post_init__(self) -> None:
        if "" in {self.cause, self.batch}:  # a shell's variable that was not set must not mean "any"
            raise typer.BadParameter("--cause and --batch must not be empty")

    @property
    def given(self) -> bool:
        return bool(self.ids or self.cause or self.stage or self.batch or self.older is not None or self.everything)

    def __str__(self) -> str:
        parts = [*self.ids]
        parts += [
            f"{name}={value}" for name, value in vars(self).items() if value and name not in {"ids", "everything"}
        ]
        return " ".join(parts) or "all"

    def takes(self, letter: DeadLetter) -> bool:
        return (
            (not self.ids or letter.id in self.ids)
            and (not self.cause or self.cause.casefold() in f"{letter.error_class}: {letter.error}".casefold())
            and (not self.stage or self.stage == stage(letter))
            and (not self.batch or self.batch == letter.batch)
            and (self.older is None or _age(letter) > self.older)
        )


def _age(letter: DeadLetter) -> timedelta:
    try:
        return datetime.now(UTC) - datetime.fromisoformat(letter.fields["failed_at"])
    except (KeyError, TypeError, ValueError):
        return timedelta(0)


def _older(text: str | None) -> timedelta | None:
    if text is None:
        return None
    units = {"m": "minutes", "h": "hours", "d": "days"}
    age = None
    with suppress(KeyError, ValueError, IndexError, OverflowError):
        age = timedelta(**{units[text[-1]]: float(text[:-1])})
    if age is None or age < timedelta(0):
        raise typer.BadParameter(f"{text!r} is no age; for example 30m, 12h or 7d", param_hint="--older")
    return age


def _select(context: Context, wanted: Filter) -> Iterator[DeadLetter]:
    return (letter for letter in context.letters.read() if wanted.takes(letter))


@app.command("list")
def list_(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage_: Stage = None, batch: Batch = None,
    older: Older = None, *, as_json: AsJson = False,
) -> None:  # fmt: skip
    """List dead letters, the oldest first.

    For example:

    - `audio-pipeline failed list --stage unpack --older 1d`

    - `audio-pipeline failed list --cause "holds no audio" --json | jq -r .[].clip`
    """
    context: Context = ctx.obj
    wanted = Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), everything=False)
    letters = list(_select(context, wanted))
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
            letter.id, cell(at), stage(letter), cell(letter.batch or "", 40), cell(letter.clip or "", CLIP_CHARS),
            cell(letter.error, WHY_CHARS),
        )  # fmt: skip
    for raw in foreign:
        table.add_row(id_of(raw), "", "?", "", "", cell(f"no dead letter: {_text(raw)}", WHY_CHARS))
    context.console.print(table if letters or foreign else "No dead letters.")
    if foreign:
        context.say(_of_foreign(len(foreign)))


@app.command()
def show(
    ctx: typer.Context, id_: Annotated[str, typer.Argument(metavar="ID", help="As `failed list` shows it.")]
) -> None:
    """Tell the whole story of a dead letter."""
    context: Context = ctx.obj
    found = list(_select(context, Filter((id_,), None, None, None, None, everything=False)))
    strange = [raw for raw in context.letters.foreign() if id_of(raw) == id_]
    if strange and not found:
        context.say(f"{'id':15} {id_}")
        context.say(f"{'entry':15} {_text(strange[0])}")
        context.say("It is no dead letter of ours, so it cannot be retried; audio-pipeline failed drop removes it")
        return
    if not found:
        context.fail(f"no dead letter has the id {id_}; audio-pipeline failed list shows them")
    letter = found[0]
    for name, value in {"id": letter.id, "stage": stage(letter), "cause": cause(letter), **letter.fields}.items():
        context.say(f"{name:15} {value if isinstance(value, str) else shown.as_json(value)}")


@app.command()
def retry(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage_: Stage = None, batch: Batch = None,
    older: Older = None, *, everything: Everything = False, dry_run: DryRun = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Bring jobs back into their queues.

    They get all their attempts again.

    It works also after a batch's scratch is gone, and on any host: a failed clip is parked in S3. Each letter moves in
    one step, so a command that is cut off has moved it or not, and none twice; call it again for the rest.

    For example:

    - `audio-pipeline failed retry 3f9c2b7a10`

    - `audio-pipeline failed retry --cause "worker died" --dry-run`

    - `audio-pipeline failed retry --all --yes`
    """
    context: Context = ctx.obj
    wanted = Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), everything)
    letters = _chosen(context, wanted, "brought back")
    if not letters or dry_run:
        context.say(_would(letters, wanted, "brought back"))
        return
    context.confirm(f"Retry {counted(len(letters), 'dead letter')} ({wanted})?", yes=yes)
    stuck: list[tuple[DeadLetter, HostGoneError]] = []
    with context.change("failed retry", str(wanted), len(letters)) as change:
        for letter in track(letters, description="retry", console=context.errors, transient=True):
            try:
                change.affected += context.letters.retry(letter)
            except HostGoneError as error:
                stuck.append((letter, error))
    context.say(_done(change.affected, len(letters) - len(stuck), "brought back"))
    for letter, why in stuck:
        context.say(f"{letter.id} stays: {why}; {_instead(context, letter)}")
    if stuck:
        raise typer.Exit(NEEDS_A_PERSON)


@app.command()
def drop(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage_: Stage = None, batch: Batch = None,
    older: Older = None, *, everything: Everything = False,
    foreign: Annotated[bool, typer.Option("--foreign", help="The entries that are no dead letters of ours.")] = False,
    dry_run: DryRun = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Forget dead letters.

    A batch whose archive is dropped is given up, as by `batch cancel`: nothing brings it back but `batch requeue`.
    Archives stay in S3, clips stay parked there, and failed in Postgres; what stays is said. `failed export` keeps a
    copy of the letters.

    Entries of `queue:failed` that are no dead letters go by their id, or all of them by `--foreign`.

    For example:

    - `audio-pipeline failed export gone.jsonl --older 7d`

    - `audio-pipeline failed drop --cause "holds no audio" --older 7d`
    """
    context: Context = ctx.obj
    wanted = Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), everything)
    strange = context.letters.foreign()
    entries = strange if foreign else [raw for raw in strange if id_of(raw) in wanted.ids]
    if foreign and not wanted.given:
        letters = []
    else:
        letters = _chosen(context, wanted, "dropped", also=[id_of(raw) for raw in entries])
    dropping = _Dropping.of(context, letters, entries)
    if not letters and not entries:
        context.say("No entry is foreign." if foreign and not wanted.given else f"No dead letters are {wanted}.")
    elif dry_run:
        context.say(f"{dropping.what} would be dropped")
        dropping.tell(context, "would be")
    else:
        context.confirm(f"Drop {dropping.what} ({'foreign' if not wanted.given else wanted})?", yes=yes)
        dropping.do(context, "foreign" if not wanted.given else str(wanted))
    if left := len(strange) - len(entries):
        context.say(_of_foreign(left))


@app.command()
def export(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Written anew, one JSON object a line.")],
    ids: Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="As `failed list` shows it.")] = None,
    cause_: Cause = None, stage_: Stage = None, batch: Batch = None, older: Older = None,
) -> None:  # fmt: skip
    """Write dead letters to a file.

    They stay where they are.
    """
    context: Context = ctx.obj
    letters = list(_select(context, Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), everything=False)))
    lines = [shown.as_json({"id": letter.id, **letter.fields}) + "\n" for letter in letters]
    try:
        target.write_bytes("".join(lines).encode(errors="backslashreplace"))
    except OSError as error:
        context.fail(f"{target} cannot be written ({error.strerror}); nothing was exported")
    context.say(f"{len(letters)} dead letters written to {target}")


@dataclass(frozen=True)
class _Dropping:
    """Entries that are to go, and what that means for their batches."""

    letters: Sequence[DeadLetter]
    entries: Sequence[bytes]  # that are no letters
    archives: Sequence[UnpackJob] = field(default=())  # of the letters that are a whole archive's
    given_up: Sequence[UnpackJob] = field(default=())  # those of them that nothing else brings to an end

    @classmethod
    def of(cls, context: Context, letters: Sequence[DeadLetter], entries: Sequence[bytes]) -> _Dropping:
        going = {letter.raw for letter in letters}
        jobs = {job.batch_id: job for letter in letters if (job := _archive_of(letter))}
        if not jobs:
            return cls(letters, entries)
        staying = {one.batch for one in context.letters.read() if one.of_archive and one.raw not in going}
        on_its_way = {job.batch_id for job in standing_jobs(context.redis)} | staying
        batches = Batches(context.redis)
        given_up = [
            job
            for batch_id, job in jobs.items()
            if batch_id not in on_its_way
            and not batches.under_way(batch_id)
            and not ((known := context.db.batch(batch_id)) and known.completed_at)
        ]
        return cls(letters, entries, list(jobs.values()), given_up)

    @property
    def what(self) -> str:
        parts = [counted(len(self.letters), "dead letter")] if self.letters else []
        parts += [counted(len(self.entries), "foreign entry", "foreign entries")] if self.entries else []
        return " and ".join(parts)

    def do(self, context: Context, subject: str) -> None:
        names = [job.batch_id for job in self.given_up]
        entries: list[DeadLetter | bytes] = [*self.letters, *self.entries]
        planned = len(entries)
        with context.change("failed drop", subject, planned, {"given_up": names} if names else None) as change:
            # First in Postgres: without its letter, an archive that is neither complete nor cancelled is brought back.
            for job in self.given_up:
                context.db.note_batch(job)
                with context.db.cancelled_batch(job.batch_id):
                    pass
            for entry in track(entries, description="drop", console=context.errors, transient=True):
                change.affected += context.letters.drop(entry)
        gone = planned - change.affected
        context.say(f"{self.what} dropped" + (f"; {gone} of them were gone already" if gone else ""))
        self.tell(context, "is")

    def tell(self, context: Context, verb: str) -> None:
        """What the drop changes beside the letters, and what it leaves."""
        for job in self.given_up:
            context.say(
                f"batch {job.batch_id} {verb} given up; audio-pipeline batch requeue {job.batch_id} takes it up again"
            )
        keys = [job.s3_key for job in self.archives]
        keys += [letter.parked_s3_key for letter in self.letters if letter.parked_s3_key]
        if keys:
            more = f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else ""
            context.say(f"left in S3: {', '.join(keys[:NAMED])}{more}")
        if clips := sum(letter.clip is not None for letter in self.letters):
            context.say(f"left in Postgres: {counted(clips, 'failed clip')}")


def _archive_of(letter: DeadLetter) -> UnpackJob | None:
    if not letter.of_archive:
        return None
    try:
        return parse_unpack_job(letter.payload)
    except PayloadError:  # it names no archive that anything could bring back
        return None


def _chosen(context: Context, wanted: Filter, past: str, also: Sequence[str] = ()) -> list[DeadLetter]:
    """The letters that are meant; ends the command when an id is no letter's. `also` are ids that are known anyway."""
    if not wanted.given:
        raise typer.BadParameter("say which: ids, --cause, --stage, --batch, --older, or --all")
    letters = list(_select(context, wanted))
    unknown = set(wanted.ids) - {letter.id for letter in letters} - set(also)
    if unknown & {id_of(raw) for raw in context.letters.foreign()}:
        context.fail(
            f"{', '.join(sorted(unknown))}: no dead letter of ours, so it can only be dropped; nothing was {past}"
        )
    if unknown:
        context.fail(f"no dead letter has the id {', '.join(sorted(unknown))}; nothing was {past}")
    return letters


def _would(letters: Sequence[DeadLetter], wanted: Filter, past: str) -> str:
    return f"{counted(len(letters), 'dead letter')} would be {past}" if letters else f"No dead letters are {wanted}."


def _done(count: int, of: int, past: str) -> str:
    return f"{counted(count, 'dead letter')} {past}" + (f"; {of - count} were gone already" if of > count else "")


def _instead(context: Context, letter: DeadLetter) -> str:
    """What helps when a clip's host is gone and nothing of the clip is parked."""
    known = context.db.batch(letter.batch) if letter.batch else None
    if known and known.s3_key:
        return f"its archive has it: audio-pipeline batch requeue {known.batch_id}"
    return f"no archive has it: inject the clip again, then audio-pipeline failed drop {letter.id}"


def _of_foreign(count: int) -> str:
    return (
        f"{counted(count, 'entry is', 'entries are')} no dead letter of ours; audio-pipeline failed show ID shows one, "
        "audio-pipeline failed drop --foreign removes all"
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
