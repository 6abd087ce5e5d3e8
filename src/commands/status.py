"""`audio-pipeline status`: the state of the whole pipeline on one screen."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from commands.batch import known_batch
from commands.context import NEEDS_A_PERSON, Context, ago, cell, clock, escape, size
from commands.options import AsJson
from commands.worker import activity, by_worker
from monitoring.overview import BatchUnderWay, Gatherer, Overview
from system import shown

WATCH_S = 2.0


def status(
    ctx: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every two seconds until Ctrl-C.")] = False,
    as_json: AsJson = False,
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Show only this batch.")] = None,
) -> None:
    """Show the state of the pipeline.

    The screen shows queues, batches under way, workers, hosts and failures.

    The exit code is 1 when something needs a person: a service is down, a worker is held, no worker takes the jobs that
    wait, a host has stopped sending signs of life, or `queue:failed` holds dead letters. When a service is down, the
    command still shows the rest.

    For example:

    - `audio-pipeline status --watch`

    - `audio-pipeline status --json | jq .needs_a_person`
    """
    context: Context = ctx.obj
    gatherer = Gatherer(context.redis, context.db, lambda: context.s3, context.letters)
    if watch:
        _watch(context, gatherer, batch)
        return
    overview = _only(context, gatherer.gather(), batch)
    if as_json:
        context.json(overview.as_dict())
    else:
        context.console.print(view(overview))
    if overview.needs_a_person:
        raise typer.Exit(NEEDS_A_PERSON)


def _watch(context: Context, gatherer: Gatherer, batch: str | None) -> None:
    with contextlib.suppress(KeyboardInterrupt), Live(console=context.console, auto_refresh=False) as live:
        while True:
            live.update(view(_only(context, gatherer.gather(), batch)), refresh=True)
            time.sleep(WATCH_S)


def _only(context: Context, overview: Overview, batch_id: str | None) -> Overview:
    """Remove all other batches from the overview."""
    if batch_id is None:
        return overview
    overview.batches = [found for found in overview.batches if found.batch_id == batch_id]
    overview.in_flight = [job for job in overview.in_flight if job.batch_id == batch_id]
    if not overview.batches and not overview.in_flight and overview.down.keys().isdisjoint({"Redis", "Postgres"}):
        state = known_batch(context, batch_id).state
        if state == "under way":
            context.fail(f"batch {batch_id} is not complete, but Redis has no keys of it; run audio-pipeline reconcile")
        context.fail(
            f"batch {batch_id} is {state}, so it has no jobs under way; see audio-pipeline batch show {batch_id}"
        )
    return overview


def view(overview: Overview) -> Group:
    """Lay out the screen."""
    parts: list[RenderableType] = [_queues(overview)]
    if overview.batches:
        parts += [Text(), _batches(overview.batches)]
    if overview.workers or overview.in_flight:
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
    numbers = ("JOBS", "NEXT IS", "DONE", "IN HAND")
    table = _table("QUEUE", *numbers, right=numbers)
    for queue in overview.queues:
        claimed = sum(job.queue == queue.name for job in overview.in_flight)
        age = "" if queue.oldest_s is None else f"{ago(queue.oldest_s)} old"
        pace = "" if queue.done_per_min is None else f"{queue.done_per_min:.1f}/min"
        table.add_row(escape(queue.name), f"{queue.depth:,}", age, pace, str(claimed) if claimed else "")
    table.add_row("queue:delayed", f"{overview.delayed:,}", "", "", "")
    return table


def _batches(batches: list[BatchUnderWay]) -> Table:
    numbers = ("DONE", "FAILED", "DOUBTFUL", "NOT JUDGED", "IN HAND", "WAITING")
    table = _table("BATCH", "", *numbers, "ETA", right=numbers)
    for batch in batches:
        bar = ProgressBar(total=max(1, batch.total), completed=batch.done + batch.failed, width=24)
        eta = "–" if batch.eta_s is None else f"{ago(batch.eta_s[0])} to {ago(batch.eta_s[1])}"
        doubts = ("" if count is None else str(count) for count in (batch.doubtful, batch.not_judged))
        table.add_row(
            escape(batch.batch_id), bar, f"{batch.done} of {batch.total}", str(batch.failed), *doubts,
            str(batch.in_flight), str(batch.waiting), eta,
        )  # fmt: skip
    return table


def _workers(overview: Overview) -> Table:
    table = _table("WORKER", "HOST", "STATE", "SINCE", "BEAT", "MEMORY", "WHAT", right=("BEAT", "MEMORY"))
    colours = {"working": "green", "held": "red", "waiting": "yellow", "draining": "cyan"}
    claimed = by_worker(overview.in_flight)
    for worker in overview.workers:
        pid = worker.worker.split(":")[-2]
        table.add_row(
            escape(f"{worker.kind} {pid}"), escape(worker.host),
            Text(shown.one_line(worker.state), colours.get(worker.state, "")),
            clock(worker.since), f"{worker.heartbeat_s:.0f} s", size(worker.memory_bytes),
            cell(activity(worker, claimed[worker.worker]), 160),
        )  # fmt: skip
    for job in overview.in_flight:
        if job.since is None:
            name = cell(f"{job.batch_id or ''} {job.clip or ''}".strip(), 160)
            table.add_row(
                escape(job.worker), escape(job.host), Text("dead", "red"), "", "", "", f"{name}: runs again soon"
            )
    return table


def _hosts(overview: Overview) -> Table:
    table = _table("HOST", "WORKERS", "HEARD OF", "SCRATCH FREE", right=("WORKERS", "HEARD OF", "SCRATCH FREE"))
    for host in overview.hosts:
        table.add_row(escape(host.host), str(host.workers), f"{ago(host.heard_s)} ago", size(host.scratch_free_bytes))
    return table


def _failures(overview: Overview) -> Table:
    table = _table("FAILED", "IN", "BECAUSE", right=("FAILED",))
    for group in overview.failures:
        table.add_row(str(group.count), group.stage, escape(group.cause))
    return table


def _verdict(overview: Overview) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if overview.activity:
        pace, batches = overview.activity.audio_hours_per_hour, overview.activity.batches_open
        open_ = "1 batch is" if batches == 1 else f"{batches:,} batches are"
        lines.append(Text(f"{pace:.1f} hours of audio per hour lately; {open_} not complete"))
        doubtful, not_judged = overview.activity.doubtful_today, overview.activity.not_judged_today
        if doubtful or not_judged:
            lines.append(Text(f"Last 24 hours: {doubtful:,} doubtful, {not_judged:,} not judged for their language"))
    lines += [Text(shown.one_line(f"! {reason}"), "red") for reason in overview.needs_a_person]
    if not overview.needs_a_person:
        lines.append(Text("Nothing needs a person.", "green"))
    return lines
