"""The fleet turns archives into transcripts and verdicts."""

from __future__ import annotations

from tests.fleet import observe
from tests.fleet.ledger import BATCHES
from tests.fleet.world import World

FLAGGED = """
SELECT b.original_filename AS archive, q.original_filename AS clip FROM ra_queue q JOIN batches b USING (batch_id)
"""


def work(world: World) -> None:
    """Archives on the EC2 host become rows of `ra_queue`; both GPU hosts did a part of the work."""
    names = world.ledger.place("whole") + world.ledger.place("small", 5)
    world.settle_accounts()
    demand_flags(world, names)
    hosts = hosts_of(names)
    world.require(set(hosts) == set(world.gpu_hosts()), f"only {', '.join(hosts)} worked")


def demand_flags(world: World, names: list[str]) -> None:
    """Require that `ra_queue` has every clip that the samples' manifest calls flagged."""
    shown = {(row["archive"], row["clip"]) for row in observe.rows(FLAGGED)}
    wanted = {(name, clip) for name in names for clip in world.ledger.placed[name].flagged}
    missing = [f"{name}: {clip}" for name, clip in sorted(wanted - shown)]
    world.require(not missing, f"not in ra_queue: {', '.join(missing)}")


def hosts_of(names: list[str]) -> list[str]:
    """The hosts that unpacked these archives; the same hosts processed their clips."""
    return sorted({row["unpack_host"] for row in observe.rows(BATCHES) if row["archive"] in names})
