"""What must survive an accident: the database."""

from __future__ import annotations

from tests.fleet import machine, observe
from tests.fleet.layout import HOSTS
from tests.fleet.scenarios.deploys import demand_units
from tests.fleet.world import World

TABLES = ("batches", "audio_files", "transcripts", "classifications", "ra_users", "ra_labels", "operator_actions")


def restore(world: World) -> None:
    """Backup, drop the database, restore: every row is back, and the fleet goes on working."""
    world.run("ansible-playbook playbooks/backup.yml")
    before = _counts()
    _as_postgres(f"DROP DATABASE {observe.DATABASE} WITH (FORCE)")
    world.run("ansible-playbook playbooks/restore.yml")
    after = _counts()
    lost = {table: (before[table], after[table]) for table in TABLES if after[table] < before[table]}
    world.require(not lost, f"rows before and after: {lost}")
    demand_units(world)
    world.ledger.place("small", 2)
    world.settle_accounts()


def _counts() -> dict[str, int]:
    return {table: int(observe.value(f"SELECT count(*) FROM {table}")) for table in TABLES}


def _as_postgres(statement: str) -> None:
    machine.inside(HOSTS["orch"], "runuser", "-u", "postgres", "--", "psql", "-XAtq", "-d", "postgres", "-c", statement)
