"""The loss of the database."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fleet import checkout, machine, observe, store
from tests.fleet.layout import HOSTS
from tests.fleet.scenarios.deploys import demand_units
from tests.fleet.world import World
from tests.security.attacks import attack

TABLES = ("batches", "audio_files", "transcripts", "classifications", "ra_users", "ra_labels", "operator_actions")


# Objects that an attacker with the RA app's password could make, to run code when an administrator makes or restores
# backups.
MARKER = Path("/var/lib/postgresql/superuser-was-here")
TRAPS = ("check", "format")


def restore(world: World) -> None:
    """Backup, drop the database, restore: every row is restored, and no code of ra_app has run as an administrator."""
    for number, name in enumerate(TRAPS):
        script = attack(name, "ra_app", MARKER)
        _as_ra_app(re.sub(r"\b(evil_now|evil|ra_trap)\b", rf"\g<1>_{number}", script))
    world.run("ansible-playbook playbooks/backup.yml")
    before = _counts()
    _lose_database(world, "ansible-playbook playbooks/restore.yml", before)
    # The host's own backups are lost, too.
    machine.inside(HOSTS["orch"], "sh", "-c", "rm -rf /var/backups/audio-pipeline/*")
    copy = f"s3://{store.BACKUPS}/backups/"
    opened = f"ansible-playbook playbooks/restore.yml -e backup={copy} -e backup_identity={checkout.BACKUP_KEY}"
    _lose_database(world, opened, before)
    world.require(not observe.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'ra_app'"), "ra_app is superuser")
    seen = machine.inside(HOSTS["orch"], "sh", "-c", f"test ! -e {MARKER}", check=False)
    world.require(seen.returncode == 0, "what ra_app left has run with an administrator's rights")
    _as_ra_app("DROP TABLE ra_trap_0, ra_trap_1; DROP FUNCTION format(text, name, name)")
    world.run("ansible-playbook playbooks/backup.yml")
    demand_units(world)
    world.ledger.place("small", 2)
    world.settle_accounts()


def _lose_database(world: World, command: str, before: dict[str, int]) -> None:
    _as_postgres(f"DROP DATABASE {observe.DATABASE} WITH (FORCE)")
    world.run(command)
    after = _counts()
    lost = {table: (before[table], after[table]) for table in TABLES if after[table] < before[table]}
    world.require(not lost, f"rows before and after: {lost}")


def _counts() -> dict[str, int]:
    schemas = {table: "ra_app" if table.startswith("ra_") else "public" for table in TABLES}
    return {table: int(observe.value(f"SELECT count(*) FROM {schemas[table]}.{table}")) for table in TABLES}


def _as_ra_app(script: str) -> None:
    password = checkout.secrets()["vault_ra_app_postgres_password"]
    words = ("psql", "-XAtq", "-h", "localhost", "-U", "ra_app", "-d", observe.DATABASE, "-v", "ON_ERROR_STOP=1")
    machine.inside(HOSTS["orch"], "env", f"PGPASSWORD={password}", *words, "-c", script)


def _as_postgres(statement: str) -> None:
    machine.inside(HOSTS["orch"], "runuser", "-u", "postgres", "--", "psql", "-XAtq", "-d", "postgres", "-c", statement)
