"""`audio-pipeline worker`: who works, and who should stop claiming for a while."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from commands.context import Context, ago, cell, clock, escape, size
from commands.options import AsJson
from commands.retire import retire
from config import host_queue
from db import who
from jobs import draining
from jobs.job_queue import mapped_redis_errors
from jobs.payloads import probe_job
from monitoring.overview import InFlight, WorkerState, jobs_in_hand, living_workers
from workers.probe import read_answer

POLL_S = 0.5
NOBODY = "; no worker of it is alive now"

app = typer.Typer(no_args_is_help=True, help="Workers: list, drain, resume, probe and retire them.")

Worker = Annotated[
    str | None, typer.Option("--worker", metavar="NAME", help="One, as `worker list` shows it: HOST:PID:NONCE.")
]
Host = Annotated[str | None, typer.Option("--host", help="All of a host, also those that start later.")]
Everyone = Annotated[bool, typer.Option("--all", help="The whole fleet.")]


@app.command("list")
def list_(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """List workers, and what each does.

    What each has in hand since when, its heartbeat and memory, and what is drained by whom.
    """
    context: Context = ctx.obj
    with mapped_redis_errors():
        workers = living_workers(context.redis)
        in_hand = {job.worker: job for job in jobs_in_hand(context.redis, workers, context.settings.scratch_root)}
    drains = draining.drains(context.redis)
    if as_json:
        context.json({"workers": [vars(worker) for worker in workers], "drains": drains})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("WORKER", "KIND", "STATE", "SINCE", "HEARTBEAT", "MEMORY", "WHAT"):
        table.add_column(column, no_wrap=column == "WORKER", overflow="fold")
    for worker in workers:
        table.add_row(
            escape(worker.worker), escape(worker.kind), escape(worker.state), clock(worker.since),
            f"{worker.heartbeat_s:.0f} s left",
            size(worker.memory_bytes), cell(what(worker, in_hand.get(worker.worker)), 160),
        )  # fmt: skip
    context.console.print(table if workers else "No worker is alive.")
    for key, asked in drains.items():
        context.say(f"drained: {_named(key)}, by {asked}")


@app.command()
def drain(
    ctx: typer.Context, worker: Worker = None, host: Host = None, *, everyone: Everyone = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the work in hand; 0 does not wait.")] = 600,
) -> None:  # fmt: skip
    """Let workers stop claiming, and wait.

    It waits until what they have in hand is done.

    They go on living, and stay drained through restarts, until `worker resume`. Exit code 1 when something is still in
    hand after `--wait` seconds; nothing new is claimed then either.

    For example:

    - `audio-pipeline worker drain --host gpu-01`

    - `audio-pipeline worker drain --all --wait 60`
    """
    context: Context = ctx.obj
    key = _key(worker, host, everyone=everyone)
    meant = _meant(context, worker, host)
    if worker is not None and not meant:
        context.fail(f"no worker {worker} is alive; audio-pipeline worker list shows those that are")
    with context.change("worker drain", _named(key), len(meant)) as change, mapped_redis_errors():
        context.redis.set(key, f"{who()} {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        change.affected = len(meant)
    deadline = time.monotonic() + wait
    with context.errors.status("waiting for the work in hand") as shown:
        while wait and (busy := _busy(context, worker, host)):
            if time.monotonic() > deadline:
                context.fail(f"still at work after {wait:.0f} s: {', '.join(busy)}; nothing new is claimed")
            shown.update(f"{len(busy)} at work, {ago(deadline - time.monotonic())} left: {', '.join(busy)}")
            time.sleep(POLL_S)
    context.say(f"{_named(key)} {'is drained' if wait else 'claims nothing more'}" + ("" if meant else NOBODY))


@app.command()
def resume(ctx: typer.Context, worker: Worker = None, host: Host = None, *, everyone: Everyone = False) -> None:
    """Let drained workers claim again.

    Say what was drained: `--all` does not undo a `--host` or a `--worker`.
    """
    context: Context = ctx.obj
    key = _key(worker, host, everyone=everyone)
    with mapped_redis_errors():
        if not context.redis.exists(key):
            others = ", ".join(_named(other) for other in draining.drains(context.redis)) or "nothing"
            context.fail(f"{_named(key)} is not drained; drained is {others}")
    with context.change("worker resume", _named(key), 1) as change, mapped_redis_errors():
        change.affected = int(str(context.redis.delete(key)))
    context.say(f"{_named(key)} claims again")


@app.command()
def probe(
    ctx: typer.Context, host: Annotated[str, typer.Option("--host", help="The host whose workers are asked.")],
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="One that must live there (transfer, unpack, gpu); repeatable.")
    ] = None,
    wait: Annotated[float, typer.Option(min=1, help="Seconds to wait, all in all.")] = 120,
) -> None:  # fmt: skip
    """Prove that a host's workers work.

    Wait until each kind lives there and is not held, then send a job through the GPU worker's whole chain: stores, four
    seconds of speech, every policy. It leaves neither row nor object. Exit code 1 when it does not come back; a host
    that is drained has to be resumed first.

    For example:

    - `audio-pipeline worker probe --host gpu-01 --kind unpack --kind gpu`
    """
    context: Context = ctx.obj
    deadline = time.monotonic() + wait
    with context.errors.status(f"waiting for the workers of {host}"):
        living = _wait_for_kinds(context, host, kind or [], deadline)
    if "gpu" not in living:
        context.say(f"{host}: {', '.join(sorted(living))} live and claim")
        return
    with context.errors.status(f"waiting for {host} to answer the probe"):
        found = _ask(context, host, deadline)
    if "error" in found:
        context.fail(f"{host}: the probe failed: {found['error']}; see journalctl -u gpu-worker there")
    context.say(
        f"{host}: {', '.join(sorted(living))} live and claim; the probe came back after {found['took_s']} s "
        f"(heard: {found['heard']!r})"
    )


app.command()(retire)


def _wait_for_kinds(context: Context, host: str, kinds: list[str], deadline: float) -> set[str]:
    """The kinds of worker that live on the host, once all of `kinds` do, and none of any kind is in trouble."""
    while True:
        found = _meant(context, None, host)
        troubled = [one for one in found if one.state in {"held", "starting", "draining"}]
        missing = sorted(set(kinds) - {one.kind for one in found})
        if found and not troubled and not missing:
            return {one.kind for one in found}
        if time.monotonic() > deadline:
            reasons = [f"{one.kind} is {one.state}{': ' if one.detail else ''}{one.detail}" for one in troubled]
            reasons += [f"no {one} worker lives there" for one in missing or ([] if found else ["such"])]
            context.fail(f"{host}: {'; '.join(reasons)}; see journalctl there, and audio-pipeline config check")
        time.sleep(POLL_S)


def _ask(context: Context, host: str, deadline: float) -> dict[str, Any]:
    """Send a probe to the head of the host's own list, and wait for its answer."""
    nonce, queue = secrets.token_hex(8), host_queue(host)
    job = probe_job(nonce)
    with mapped_redis_errors():
        context.redis.lpush(queue, job)
    try:
        while (found := read_answer(context.redis, nonce)) is None:
            if time.monotonic() > deadline:
                context.fail(f"{host}: the probe did not come back; is the GPU worker busy, or held? See its journal")
            time.sleep(POLL_S)
        return found
    finally:  # not answered: it must not wait there for a worker of next week
        with mapped_redis_errors():
            context.redis.lrem(queue, 1, cast("str", job))


def what(worker: WorkerState, job: InFlight | None) -> str:
    """What a worker does, or why it does nothing."""
    return f"{job.batch_id or ''} {job.clip or ''}".strip() if job else worker.detail


def _named(key: str) -> str:
    return key.removeprefix("drain:")


def _key(worker: str | None, host: str | None, *, everyone: bool) -> str:
    if "" in {worker, host} or [worker is not None, host is not None, everyone].count(True) != 1:
        raise typer.BadParameter("say one of --worker, --host, --all")
    return draining.ALL if everyone else draining.host_key(host) if host else draining.worker_key(str(worker))


def _meant(context: Context, worker: str | None, host: str | None) -> list[WorkerState]:
    with mapped_redis_errors():
        found = living_workers(context.redis)
    return [one for one in found if worker in {None, one.worker} and host in {None, one.host}]


def _busy(context: Context, worker: str | None, host: str | None) -> list[str]:
    """Workers that have not come to rest: a job in their list, or a state from before they saw the drain."""
    meant = _meant(context, worker, host)
    with mapped_redis_errors():
        holding = {job.worker for job in jobs_in_hand(context.redis, meant, context.settings.scratch_root)}
    return [one.worker for one in meant if one.worker in holding or one.state not in {"draining", "held", "waiting"}]
