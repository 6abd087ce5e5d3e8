"""`audio-pipeline failed`: look at dead letters, bring them back, or let them go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from commands.context import Context
from dead_letters import DeadLetter
from errors import PayloadError
from overview import cause, stage

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, retry, drop, export.")

Ids = Annotated[list[str] | None, typer.Argument(help="Letters by id, as `failed list` shows them.")]
Cause = Annotated[str | None, typer.Option("--cause", help="Whose error has this text, in any case.")]
Stage = Annotated[str | None, typer.Option("--stage", help="unpack or gpu.")]
Batch = Annotated[str | None, typer.Option("--batch", help="Of this batch.")]
Older = Annotated[str | None, typer.Option("--older", help="Older than 30m, 12h or 7d.")]
Everything = Annotated[bool, typer.Option("--all", help="Every letter.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@dataclass(frozen=True)
class Filter:
    ids: tuple[str, ...]
    cause: str | None
    stage: str | None
    batch: str | None
    older: timedelta | None
    everything: bool

    @property
    def given(self) -> bool:
        return bool(self.ids or self.cause or self.stage or self.batch or self.older or self.everything)

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
            and (not self.batch or self.batch == batch_of(letter))
            and (not self.older or _age(letter) > self.older)
        )


def batch_of(letter: DeadLetter) -> str | None:
    from queue_snapshot import read_batch_and_clip

    return letter.batch_id or read_batch_and_clip(letter.payload)[0]


def _age(letter: DeadLetter) -> timedelta:
    try:
        return datetime.now(UTC) - datetime.fromisoformat(letter.fields["failed_at"])
    except (KeyError, TypeError, ValueError):
        return timedelta(0)


def _older(text: str | None) -> timedelta | None:
    if text is None:
        return None
    units = {"m": "minutes", "h": "hours", "d": "days"}
    try:
        return timedelta(**{units[text[-1]]: float(text[:-1])})
    except (KeyError, ValueError, IndexError):
        raise typer.BadParameter(f"{text!r} is no age; for example 30m, 12h or 7d", param_hint="--older") from None


def _select(context: Context, wanted: Filter) -> Iterator[DeadLetter]:
    for raw in context.letters:
        try:
            letter = DeadLetter.parse(raw)
        except PayloadError:
            continue  # `failed list` shows it
        if wanted.takes(letter):
            yield letter


@app.command("list")
def list_(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage_: Stage = None, batch: Batch = None,
    older: Older = None, *, as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:  # fmt: skip
    """List dead letters, the oldest first.

    Example:
        audio-pipeline failed list --stage unpack --older 1d
    """
    context: Context = ctx.obj
    letters = list(_select(context, Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), False)))
    if as_json:
        context.json([{"id": letter.id, **letter.fields} for letter in letters])
        return
    table = Table("ID", "FAILED AT", "IN", "BATCH", "CLIP", "WHY", box=None, pad_edge=False)
    for letter in letters:
        at = str(letter.fields.get("failed_at", ""))[:19]
        table.add_row(letter.id, at, stage(letter), batch_of(letter), escape(letter.clip or ""), escape(letter.error))
    context.console.print(table if letters else "No dead letters.")


@app.command()
def show(ctx: typer.Context, id_: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Tell the whole story of a dead letter, raw payload included."""
    context: Context = ctx.obj
    found = list(_select(context, Filter((id_,), None, None, None, None, False)))
    if not found:
        context.fail(f"no dead letter has the id {id_}; see audio-pipeline failed list")
    for name, value in {"id": found[0].id, "cause": cause(found[0]), **found[0].fields}.items():
        context.console.print(f"[bold]{name}[/bold]: {escape(value if isinstance(value, str) else json.dumps(value))}")


@app.command()
def retry(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage_: Stage = None, batch: Batch = None,
    older: Older = None, *, everything: Everything = False, dry_run: DryRun = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Bring jobs back, with all their attempts. Works also after the batch's scratch is gone: clips are parked in S3.

    Each letter moves in one step, so a command that is interrupted has moved it or not, and none twice.

    Examples:
        audio-pipeline failed retry --cause "workers died"

        audio-pipeline failed retry --all --yes
    """
    wanted = Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), everything)
    _change(ctx.obj, wanted, "retry", "brought back", dry_run=dry_run, yes=yes)


@app.command()
def drop(
    ctx: typer.Context, ids: Ids = None, cause_: Cause = None, stage_: Stage = None, batch: Batch = None,
    older: Older = None, *, everything: Everything = False, dry_run: DryRun = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Forget dead letters. Their clips stay parked in S3, and failed in Postgres.

    Example:
        audio-pipeline failed drop --cause "holds no audio" --older 7d
    """
    wanted = Filter(tuple(ids or ()), cause_, stage_, batch, _older(older), everything)
    _change(ctx.obj, wanted, "drop", "dropped", dry_run=dry_run, yes=yes)


@app.command()
def export(
    ctx: typer.Context, target: Annotated[Path, typer.Argument(help="File to write, one JSON object a line.")],
    cause_: Cause = None, stage_: Stage = None, batch: Batch = None, older: Older = None,
) -> None:  # fmt: skip
    """Write dead letters to a file; they stay where they are."""
    context: Context = ctx.obj
    letters = list(_select(context, Filter((), cause_, stage_, batch, _older(older), False)))
    target.write_text(
        "".join(json.dumps({"id": letter.id, **letter.fields}, ensure_ascii=False) + "\n" for letter in letters)
    )
    context.console.print(f"{len(letters)} dead letters written to {target}")


def _change(context: Context, wanted: Filter, verb: str, past: str, *, dry_run: bool, yes: bool) -> None:
    if not wanted.given:
        raise typer.BadParameter("say which: ids, --cause, --stage, --batch, --older, or --all")
    letters = list(_select(context, wanted))
    if not letters or dry_run:
        context.console.print(f"{len(letters)} dead letters {'would be ' if dry_run else ''}{past}")
        return
    context.confirm(f"{verb.capitalize()} {len(letters)} dead letters ({wanted})?", yes=yes)
    act = context.letters.retry if verb == "retry" else context.letters.drop
    done = 0
    try:
        for letter in track(letters, description=verb, console=context.errors, transient=True):
            done += act(letter)
    finally:  # whatever ended it: what was changed stands in the record
        if done:
            context.record(f"failed {verb}", str(wanted), done)
    gone = len(letters) - done
    context.console.print(f"{done} dead letters {past}" + (f", {gone} were gone already" if gone else ""))
