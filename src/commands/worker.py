"""`audio-pipeline worker`: list the workers, and stop them from claiming jobs for a while."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
from monitoring.overview import InFlight, WorkerState, jobs_in_flight, living_workers
from workers.probe import read_answer

POLL_S = 0.5
NONE_ALIVE = "; no such worker is alive now"

app = typer.Typer(no_args_is_help=True, help="List, drain, resume, probe, retire workers.")

Worker = Annotated[
    str | None, typer.Option("--worker", metavar="NAME", help="One worker, as `worker list` shows it: HOST:PID:NONCE.")
]
Host = Annotated[str | None, typer.Option("--host", help="All workers of this host, also those that start later.")]
Everyone = Annotated[bool, typer.Option("--all", help="All workers of all hosts.")]


@app.command("list")
def list_(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """List the workers and their jobs.

    Shows each worker's state, current job, heartbeat and memory, and who drained which workers.
    """
    context: Context = ctx.obj
    with mapped_redis_errors():
        workers = living_workers(context.redis)
        claimed = by_worker(jobs_in_flight(context.redis, workers, context.settings.scratch_root))
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
            size(worker.memory_bytes), cell(activity(worker, claimed[worker.worker]), 160),
        )  # fmt: skip
    context.console.print(table if workers else "No worker is alive.")
    for key, asked in drains.items():
        context.say(f"drained: {_target(key)}, by {asked}")


@app.command()
def drain(
    ctx: typer.Context, worker: Worker = None, host: Host = None, *, everyone: Everyone = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the current jobs; 0 does not wait.")] = 600,
) -> None:  # fmt: skip
    """Stop workers from claiming jobs.

    The command waits until the workers have finished their current jobs.

    Drained workers keep running but claim nothing, also after a restart, until `worker resume`. The exit code is 1 when
    a job is still running after `--wait` seconds. The workers stay drained in that case too.

    For example:

    - `audio-pipeline worker drain --host gpu-01`

    - `audio-pipeline worker drain --all --wait 60`
    """
    context: Context = ctx.obj
    key = _key(worker, host, everyone=everyone)
    workers = _matching_workers(context, worker, host)
    if worker is not None and not workers:
        context.fail(f"no worker {worker} is alive; audio-pipeline worker list shows those that are")
    with context.change("worker drain", _target(key), len(workers)) as change, mapped_redis_errors():
        context.redis.set(key, f"{who()} {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        change.affected = len(workers)
    deadline = time.monotonic() + wait
    with context.errors.status("waiting for the current jobs") as spinner:
        while wait and (busy := _busy(context, worker, host)):
            if time.monotonic() > deadline:
                context.fail(f"still working after {wait:.0f} s: {', '.join(busy)}; they claim no new job")
            spinner.update(f"{len(busy)} working, {ago(deadline - time.monotonic())} left: {', '.join(busy)}")
            time.sleep(POLL_S)
    context.say(f"{_target(key)} {'is drained' if wait else 'claims nothing more'}" + ("" if workers else NONE_ALIVE))


@app.command()
def resume(ctx: typer.Context, worker: Worker = None, host: Host = None, *, everyone: Everyone = False) -> None:
    """Let drained workers claim again.

    Give the same option as for the drain: `--all` does not undo a `--host` or a `--worker`.
    """
    context: Context = ctx.obj
    key = _key(worker, host, everyone=everyone)
    with mapped_redis_errors():
        if not context.redis.exists(key):
            others = ", ".join(_target(other) for other in draining.drains(context.redis)) or "nothing"
            context.fail(f"{_target(key)} is not drained; drained now: {others}")
    with context.change("worker resume", _target(key), 1) as change, mapped_redis_errors():
        change.affected = int(str(context.redis.delete(key)))
    context.say(f"{_target(key)} claims again")


@app.command()
def probe(
    ctx: typer.Context, host: Annotated[str, typer.Option("--host", help="The host whose workers are tested.")],
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="A kind that must be alive: transfer, unpack or gpu; repeatable.")
    ] = None,
    wait: Annotated[float, typer.Option(min=1, help="Seconds to wait in total.")] = 120,
) -> None:  # fmt: skip
    """Test a host's workers with a probe.

    The command waits until a worker of each kind is alive there and not held. Then it sends a probe job to the GPU
    worker, which checks Postgres and S3, transcribes four seconds of speech and scores every policy. The probe leaves
    no row and no object. The exit code is 1 when no answer comes. Resume a drained host before you probe it.

    For example:

    - `audio-pipeline worker probe --host gpu-01 --kind unpack --kind gpu`
    """
    context: Context = ctx.obj
    deadline = time.monotonic() + wait
    with context.errors.status(f"waiting for the workers of {host}"):
        living = _wait_for_kinds(context, host, kind or [], deadline)
    if "gpu" not in living:
        context.say(f"{host}: {', '.join(sorted(living))} alive and claiming jobs")
        return
    with context.errors.status(f"waiting for {host} to answer the probe"):
        found = _ask(context, host, deadline)
    if "error" in found:
        context.fail(f"{host}: the probe failed: {found['error']}; see journalctl -u gpu-worker there")
    context.say(
        f"{host}: {', '.join(sorted(living))} alive and claiming jobs; the probe was answered in {found['took_s']} s "
        f"(transcript: {found['heard']!r})"
    )


app.command()(retire)


def _wait_for_kinds(context: Context, host: str, kinds: list[str], deadline: float) -> set[str]:
    """Wait until workers of all `kinds` are alive on the host and none is in trouble -> the kinds alive there."""
    while True:
        found = _matching_workers(context, None, host)
        troubled = [one for one in found if one.state in {"held", "starting", "draining"}]
        missing = sorted(set(kinds) - {one.kind for one in found})
        if found and not troubled and not missing:
            return {one.kind for one in found}
        if time.monotonic() > deadline:
            reasons = [f"{one.kind} is {one.state}{': ' if one.detail else ''}{one.detail}" for one in troubled]
            reasons += [f"no {one} worker is alive there" for one in missing]
            reasons += [] if found or missing else ["no worker is alive there"]
            context.fail(f"{host}: {'; '.join(reasons)}; see journalctl there, and audio-pipeline config check")
        time.sleep(POLL_S)


def _ask(context: Context, host: str, deadline: float) -> dict[str, Any]:
    """Push a probe to the head of the host's own queue and wait for the answer."""
    nonce, queue = secrets.token_hex(8), host_queue(host)
    job = probe_job(nonce)
    with mapped_redis_errors():
        context.redis.lpush(queue, job)
    try:
        while (found := read_answer(context.redis, nonce)) is None:
            if time.monotonic() > deadline:
                context.fail(f"{host}: no answer to the probe; is the GPU worker busy or held? See its journal")
            time.sleep(POLL_S)
        return found
    finally:  # a probe that was not answered must not stay in the queue
        with mapped_redis_errors():
            context.redis.lrem(queue, 1, cast("str", job))


def by_worker(jobs: Iterable[InFlight]) -> Mapping[str, Sequence[InFlight]]:
    """Worker -> its jobs in hand, in the order of their claims; an empty list for a worker without any."""
    found: defaultdict[str, list[InFlight]] = defaultdict(list)
    for job in jobs:
        found[job.worker].append(job)
    return found


def activity(worker: WorkerState, jobs: Sequence[InFlight]) -> str:
    """A worker's first job and how many others it has in hand, or the reason why it has none."""
    if not jobs:
        return worker.detail
    first = f"{jobs[0].batch_id or ''} {jobs[0].clip or ''}".strip()
    return first if len(jobs) == 1 else f"{first} and {len(jobs) - 1} more"


def _target(key: str) -> str:
    return key.removeprefix("drain:")


def _key(worker: str | None, host: str | None, *, everyone: bool) -> str:
    if "" in {worker, host} or [worker is not None, host is not None, everyone].count(True) != 1:
        raise typer.BadParameter("give exactly one of --worker, --host and --all")
    return draining.ALL if everyone else draining.host_key(host) if host else draining.worker_key(str(worker))


def _matching_workers(context: Context, worker: str | None, host: str | None) -> list[WorkerState]:
    with mapped_redis_errors():
        found = living_workers(context.redis)
    return [one for one in found if worker in {None, one.worker} and host in {None, one.host}]


def _busy(context: Context, worker: str | None, host: str | None) -> list[str]:
    """Workers that have not stopped yet: they hold a job, or they have not seen the drain."""
    workers = _matching_workers(context, worker, host)
    with mapped_redis_errors():
        holding = {job.worker for job in jobs_in_flight(context.redis, workers, context.settings.scratch_root)}
    return [one.worker for one in workers if one.worker in holding or one.state not in {"draining", "held", "waiting"}]
