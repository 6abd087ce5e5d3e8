"""`audio-pipeline worker`: who works, and who should stop claiming for a while."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

import draining
from audit import who
from commands.context import Context, ago, size
from job_queue import mapped_redis_errors
from overview import Gatherer, Overview, WorkerState

app = typer.Typer(no_args_is_help=True, help="Workers: list, drain, resume.")

Worker = Annotated[str | None, typer.Option("--worker", help="As `worker list` shows it: HOST:PID:NONCE.")]
Host = Annotated[str | None, typer.Option("--host", help="All workers of a host, also those that start later.")]
Everyone = Annotated[bool, typer.Option("--all", help="The whole fleet.")]


@app.command("list")
def list_(ctx: typer.Context, *, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List workers, what each does, and what is drained."""
    context: Context = ctx.obj
    overview, drains = _overview(context), draining.drains(context.redis)
    if as_json:
        context.json({"workers": [vars(worker) for worker in overview.workers], "drains": drains})
        return
    table = Table("WORKER", "KIND", "STATE", "SINCE", "HEARTBEAT", "MEMORY", "WHAT", box=None, pad_edge=False)
    for worker in overview.workers:
        table.add_row(
            worker.worker, worker.kind, worker.state, worker.since[11:19], f"{worker.heartbeat_s:.0f} s left",
            size(worker.memory_bytes), worker.detail,
        )  # fmt: skip
    context.console.print(table if overview.workers else "No worker is alive.")
    for key, asked in drains.items():
        context.console.print(f"drained: {key.removeprefix('drain:')} ({asked})")


@app.command()
def drain(
    ctx: typer.Context, worker: Worker = None, host: Host = None, *, everyone: Everyone = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the work in hand; 0: do not wait.")] = 600,
) -> None:  # fmt: skip
    """Stop claiming, and wait until the work in hand is done.

    Example:
        audio-pipeline worker drain --host gpu-01 && systemctl restart gpu-worker
    """
    context: Context = ctx.obj
    key = _key(worker, host, everyone=everyone)
    with mapped_redis_errors():
        context.redis.set(key, f"{who()} {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    context.record("worker drain", key.removeprefix("drain:"), len(_meant(_overview(context), worker, host)))
    deadline = time.monotonic() + wait
    with context.errors.status("waiting for the work in hand") as shown:
        while busy := _busy(_overview(context), worker, host):
            if time.monotonic() > deadline:
                context.fail(f"still at work after {wait:.0f} s: {', '.join(busy)}; nothing new is claimed")
            shown.update(f"waiting for {len(busy)} workers, {ago(deadline - time.monotonic())} left: {', '.join(busy)}")
            threading.Event().wait(0.5)
    context.console.print(f"{key.removeprefix('drain:')} is drained")


@app.command()
def resume(ctx: typer.Context, worker: Worker = None, host: Host = None, *, everyone: Everyone = False) -> None:
    """Let drained workers claim again."""
    context: Context = ctx.obj
    key = _key(worker, host, everyone=everyone)
    with mapped_redis_errors():
        was = context.redis.delete(key)
    if was:
        context.record("worker resume", key.removeprefix("drain:"), 1)
    context.console.print(f"{key.removeprefix('drain:')} {'claims again' if was else 'was not drained'}")


def _key(worker: str | None, host: str | None, *, everyone: bool) -> str:
    if [worker is not None, host is not None, everyone].count(True) != 1:
        raise typer.BadParameter("say one of --worker, --host, --all")
    return draining.ALL if everyone else draining.host_key(host) if host else draining.worker_key(str(worker))


def _overview(context: Context) -> Overview:
    overview = Gatherer(context.redis, context.db, context.s3, context.letters).gather()
    if "Redis" in overview.down:
        context.fail(overview.down["Redis"])
    return overview


def _meant(overview: Overview, worker: str | None, host: str | None) -> list[WorkerState]:
    return [found for found in overview.workers if worker in {None, found.worker} and host in {None, found.host}]


def _busy(overview: Overview, worker: str | None, host: str | None) -> list[str]:
    """Workers that have not come to rest: a job in their list, or a state from before they saw the drain."""
    holding = {job.worker for job in overview.in_flight}
    return [
        found.worker
        for found in _meant(overview, worker, host)
        if found.worker in holding or found.state not in {"draining", "held"}
    ]
