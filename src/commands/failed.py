"""`audio-pipeline failed`: look at dead letters, bring them back, or let them go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import track
from rich.table import Table

from commands.context import Context, counted, escape
from commands.options import AsJson, DryRun, Yes
from dead_letters import DeadLetter
from errors import PayloadError
from overview import cause, stage

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, retry or drop them.")

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `failed list` shows them.")]
Cause = Annotated[str | None, typer.Option("--cause", metavar="TEXT", help="Whose error has this text, in any case.")]
Stage = Annotated[Literal["unpack", "gpu"] | None, typer.Option("--stage", help="Where they failed.")]
Batch = Annotated[str | None, typer.Option("--batch", metavar="BATCH", help="Of this batch.")]
Older = Annotated[str | None, typer.Option("--older", metavar="AGE", help="Older than `30m`, `12h` or `7d`.")]
Everything = Annotated[bool, typer.Option("--all", help="Every letter.")]


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
    for raw in context.letters:
        try:
            letter = DeadLetter.parse(raw)
        except PayloadError:
            continue  # no letter of ours; `_strangers` counts it
        if wanted.takes(letter):
            yield letter


def _strangers(context: Context) -> int:
    """Entries that the pipeline did not write, or that somebody has changed; no command here touches them."""
    count = 0
    for raw in context.letters:
        try:
            DeadLetter.parse(raw)
        except PayloadError:
            count += 1
    return count


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
    letters = list(_select(context, Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), everything=False)))
    if as_json:
        context.json([{"id": letter.id, **letter.fields} for letter in letters])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("ID", "FAILED AT", "IN", "BATCH", "CLIP", "WHY"):
        table.add_column(column, no_wrap=column == "ID", overflow="fold")
    for letter in letters:
        at = str(letter.fields.get("failed_at", ""))[:19].replace("T", " ")
        table.add_row(
            letter.id, escape(at), stage(letter), escape(letter.batch or ""), escape(letter.clip or ""),
            escape(letter.error),
        )  # fmt: skip
    context.console.print(table if letters else "No dead letters.")
    if strangers := _strangers(context):
        context.say(
            f"{counted(strangers, 'entry is', 'entries are')} none of ours; look: redis-cli LRANGE queue:failed 0 -1"
        )


@app.command()
def show(
    ctx: typer.Context, id_: Annotated[str, typer.Argument(metavar="ID", help="As `failed list` shows it.")]
) -> None:
    """Tell the whole story of a dead letter."""
    context: Context = ctx.obj
    found = list(_select(context, Filter((id_,), None, None, None, None, everything=False)))
    if not found:
        context.fail(f"no dead letter has the id {id_}; audio-pipeline failed list shows them")
    letter = found[0]
    for name, value in {"id": letter.id, "stage": stage(letter), "cause": cause(letter), **letter.fields}.items():
        context.say(f"{name:15} {value if isinstance(value, str) else json.dumps(value)}")


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
    wanted = Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), everything)
    _change(ctx.obj, wanted, "retry", "brought back", dry_run=dry_run, yes=yes)


@app.command()
def drop(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage_: Stage = None, batch: Batch = None,
    older: Older = None, *, everything: Everything = False, dry_run: DryRun = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Forget dead letters.

    Their clips stay parked in S3, and failed in Postgres; `failed export` keeps a copy.

    For example:

    - `audio-pipeline failed export gone.jsonl --older 7d`

    - `audio-pipeline failed drop --cause "holds no audio" --older 7d`
    """
    wanted = Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), everything)
    _change(ctx.obj, wanted, "drop", "dropped", dry_run=dry_run, yes=yes)


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
    lines = [json.dumps({"id": letter.id, **letter.fields}, ensure_ascii=False) + "\n" for letter in letters]
    try:
        target.write_bytes("".join(lines).encode(errors="backslashreplace"))
    except OSError as error:
        context.fail(f"{target} cannot be written ({error.strerror}); nothing was exported")
    context.say(f"{len(letters)} dead letters written to {target}")


def _change(context: Context, wanted: Filter, verb: str, past: str, *, dry_run: bool, yes: bool) -> None:
    if not wanted.given:
        raise typer.BadParameter("say which: ids, --cause, --stage, --batch, --older, or --all")
    letters = list(_select(context, wanted))
    unknown = set(wanted.ids) - {letter.id for letter in letters}
    if unknown:
        context.fail(f"no dead letter has the id {', '.join(sorted(unknown))}; nothing was {past}")
    if not letters or dry_run:
        context.say(
            f"{counted(len(letters), 'dead letter')} would be {past}" if letters else f"No dead letters are {wanted}."
        )
        return
    context.confirm(f"{verb.capitalize()} {len(letters)} dead letters ({wanted})?", yes=yes)
    act = context.letters.retry if verb == "retry" else context.letters.drop
    with context.change(f"failed {verb}", str(wanted), len(letters)) as change:
        for letter in track(letters, description=verb, console=context.errors, transient=True):
            change.affected += act(letter)
    gone = len(letters) - change.affected
    context.say(f"{counted(change.affected, 'dead letter')} {past}" + (f"; {gone} were gone already" if gone else ""))
