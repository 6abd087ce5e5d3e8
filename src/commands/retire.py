"""`audio-pipeline worker retire`: a host leaves for good, and nobody waits until it counts as lost."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.context import Context, counted
from commands.options import DryRun, Yes
from jobs.job_queue import JobQueue, WorkerName, mapped_redis_errors
from monitoring.overview import living_workers
from recovery.lost_hosts import LostHosts


def retire(
    ctx: typer.Context, host: Annotated[str, typer.Option("--host", help="The host that leaves.")],
    *, dry_run: DryRun = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Hand on the work of a host that is gone for good.

    Its unfinished batches are unpacked again elsewhere, now and not after HOST_LOST_AFTER_S; clips that are done are
    skipped. A host with a living worker is refused: stop its workers first.

    For example:

    - `audio-pipeline worker retire --host gpu-02`
    """
    context: Context = ctx.obj
    with mapped_redis_errors():
        living = [one.worker for one in living_workers(context.redis) if one.host == host]
    if living:
        context.fail(f"{host} still works ({', '.join(living)}); stop its workers first: playbooks/stop-workers.yml")
    batches = context.db.unfinished_batches(host)
    for batch in batches:
        context.say(f"{batch.batch_id}: {batch.original_filename or batch.s3_key}")
    if dry_run:
        context.say(f"{counted(len(batches), 'batch', 'batches')} would be unpacked again")
        return
    context.confirm(f"Retire {host} and unpack {counted(len(batches), 'archive')} again?", yes=yes)
    settings, observer = context.settings, WorkerName.of_this_process(context.settings.host)
    with context.change("worker retire", host, len(batches)) as change:
        JobQueue(context.redis, observer).reap()  # what its workers held goes to where the next step finds it
        lost = LostHosts(
            context.redis, context.db, observer, after_s=settings.host_lost_after_s, ttl_s=settings.heartbeat_ttl_s
        )
        change.affected = len(lost.retire(host))
    context.say(f"{host} is retired; {counted(change.affected, 'batch', 'batches')} unpacked again")
