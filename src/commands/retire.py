"""`audio-pipeline worker retire`: a host leaves for good, and its work does not wait until the host counts as lost."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.context import Context, counted
from commands.options import DryRun, Yes
from recovery.host_retirement import HostRetirement


def retire(
    ctx: typer.Context, host: Annotated[str, typer.Option("--host", help="The host that leaves.")],
    *, dry_run: DryRun = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Hand on the work of a host that is gone for good.

    Its unfinished batches are unpacked again on other hosts, at once and not only after HOST_LOST_AFTER_S. Clips that
    have results are skipped. The command refuses a host with a living worker: stop its workers first.

    For example:

    - `audio-pipeline worker retire --host gpu-02`
    """
    context: Context = ctx.obj
    retirement = HostRetirement(context.redis, context.db, context.settings, context.audit)
    plan = retirement.plan(host)
    for batch in plan.batches:
        context.say(f"{batch.batch_id}: {batch.archive_name or batch.s3_key}")
    if dry_run:
        context.say(f"{counted(len(plan.batches), 'batch', 'batches')} would be unpacked again")
        return
    context.confirm(f"Retire {host} and unpack {counted(len(plan.batches), 'archive')} again?", yes=yes)
    batches = retirement.retire(plan)
    context.say(f"{host} is retired; {counted(len(batches), 'batch', 'batches')} unpacked again")
