"""`audio-pipeline status`: what is going on, on one screen."""

from __future__ import annotations

import threading
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from commands.context import NEEDS_A_PERSON, Context, ago, size
from overview import BatchUnderWay, Gatherer, Overview

WATCH_S = 2.0


def status(
    ctx: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every two seconds until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same numbers for machines.")] = False,
    batch: Annotated[str | None, typer.Option(help="Only this batch.")] = None,
) -> None:
    """Show queues, work in hand, batches, workers, hosts and failures.

    Exit code 1 when something needs a person: a service is down, a worker is held, jobs wait that nobody takes, dead
    letters stand in queue:failed.

    Examples:
        audio-pipeline status

        audio-pipeline status --json | jq .needs_a_person
    """
    context: Context = ctx.obj
    gatherer = Gatherer(context.redis, context.db, context.s3, context.letters)
    if watch:
        with Live(console=context.console, screen=False, auto_refresh=False) as live:
            while True:
                live.update(view(_only(gatherer.gather(), batch)), refresh=True)
                threading.Event().wait(WATCH_S)
    overview = _only(gatherer.gather(), batch)
    if as_json:
        context.json(overview.as_dict())
    else:
        context.console.print(view(overview))
    if overview.needs_a_person:
        raise typer.Exit(NEEDS_A_PERSON)


def _only(overview: Overview, batch: str | None) -> Overview:
    if batch:
        overview.batches = [found for found in overview.batches if found.batch_id == batch]
        overview.in_flight = [job for job in overview.in_flight if job.batch_id == batch]
    return overview


def view(overview: Overview) -> Group:
    """The screen."""
    parts: list[RenderableType] = [_queues(overview)]
    if overview.batches:
        parts += [Text(), _batches(overview.batches)]
    if overview.workers:
        parts += [Text(), _workers(overview)]
    if overview.hosts:
        parts += [Text(), _hosts(overview)]
    if overview.failures:
        parts += [Text(), _failures(overview)]
    parts += [Text(), *_verdict(overview)]
    return Group(*parts)


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _queues(overview: Overview) -> Table:
    table = _table("QUEUE", "JOBS", "NEXT IS", "IN HAND", right=("JOBS", "NEXT IS", "IN HAND"))
    for queue in overview.queues:
        in_hand = sum(job.queue == queue.name for job in overview.in_flight)
        age = "" if queue.name == "queue:failed" else ago(queue.oldest_s) + (" old" if queue.oldest_s else "")
        table.add_row(queue.name, f"{queue.depth:,}", age, str(in_hand) if in_hand else "")
    table.add_row("queue:delayed", f"{overview.delayed:,}", "", "")
    return table


def _batches(batches: list[BatchUnderWay]) -> Table:
    table = _table(
        "BATCH", "", "DONE", "FAILED", "IN HAND", "WAITING", "ETA", right=("DONE", "FAILED", "IN HAND", "WAITING")
    )
    for batch in batches:
        bar = ProgressBar(total=max(1, batch.total), completed=batch.done + batch.failed, width=24)
        eta = "–" if batch.eta_s is None else f"{ago(batch.eta_s[0])} to {ago(batch.eta_s[1])}"
        done = f"{batch.done} of {batch.total}"
        table.add_row(batch.batch_id, bar, done, str(batch.failed), str(batch.in_flight), str(batch.waiting), eta)
    return table


def _workers(overview: Overview) -> Table:
    table = _table("WORKER", "HOST", "STATE", "SINCE", "MEMORY", "WHAT", right=("MEMORY",))
    colours = {"working": "green", "held": "yellow", "draining": "cyan"}
    in_hand = {job.worker: f"{job.batch_id or ''} {job.clip or ''}".strip() for job in overview.in_flight}
    for worker in overview.workers:
        what = in_hand.get(worker.worker) or worker.detail
        state = Text(worker.state, style=colours.get(worker.state, ""))
        pid = worker.worker.split(":")[-2]
        table.add_row(
            f"{worker.kind} {pid}", worker.host, state, worker.since[11:19], size(worker.memory_bytes), escape(what)
        )
    return table


def _hosts(overview: Overview) -> Table:
    table = _table("HOST", "WORKERS", "HEARD OF", "SCRATCH FREE", right=("WORKERS", "HEARD OF", "SCRATCH FREE"))
    for host in overview.hosts:
        table.add_row(host.host, str(host.workers), f"{ago(host.heard_s)} ago", size(host.scratch_free_bytes))
    return table


def _failures(overview: Overview) -> Table:
    table = _table("FAILED", "IN", "BECAUSE", right=("FAILED",))
    for group in overview.failures:
        table.add_row(str(group.count), group.stage, escape(group.cause))
    return table


def _verdict(overview: Overview) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if overview.activity:
        pace = overview.activity.audio_hours_per_hour
        lines.append(
            Text(
                f"{pace:.1f} hours of audio per hour in the last minutes; {overview.activity.batches_open} batches open"
            )
        )
    lines += [Text(f"! {reason}", style="red") for reason in overview.needs_a_person]
    if not overview.needs_a_person:
        lines.append(Text("Nothing needs a person.", style="green"))
    return lines
