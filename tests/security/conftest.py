"""Databases with the current and an older schema, an attacker's session, and the programs of backup and restore."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from local.services import Services
from local.services.postgres import bin_dir, unprivileged

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "ansible/roles/orchestrator/files"
VERSION_3 = Path(__file__).with_name("schema_version_3.sql")  # the last that let ra_app make things in public


@dataclass(frozen=True)
class Site:
    """One database under attack. `marker` is the file that an attack writes when it runs as a superuser."""

    services: Services
    name: str
    folder: Path
    marker: Path

    @property
    def restored(self) -> str:
        return f"{self.name}_restored"

    def ask(self, role: str, query: str, database: str = "") -> list[tuple[object, ...]]:
        connection = psycopg2.connect(self.services.postgres.dsn(role, database or self.name))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def apply(self, schema: Path | None = None, database: str = "") -> None:
        if schema is None:
            self.services.apply_schema(database or self.name)
        else:
            self.services.postgres.psql(database or self.name, schema, search_path="public")

    def program(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """A program of the role, with the rights of the Unix user postgres: it logs in as postgres and as ra_app."""
        return subprocess.run(words, cwd=self.folder, env=self.environ(), capture_output=True, text=True, check=False)

    def environ(self) -> dict[str, str]:
        postgres = self.services.postgres
        passwords = self.folder / "pgpass"
        lines = [f"127.0.0.1:{postgres.port}:*:{role}:{postgres.password(role)}\n" for role in ("postgres", "ra_app")]
        passwords.write_text("".join(lines))
        passwords.chmod(0o600)
        where = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
            "PGUSER": "postgres",
            "PGPASSFILE": str(passwords),
        }
        return os.environ | where | {"PATH": f"{bin_dir()}:{os.environ['PATH']}"}

    def dump(self) -> Path:
        done = self.program(PROGRAMS / "dump-database", self.name)
        assert done.returncode == 0, done.stderr
        return self.folder / f"{self.name}.dump"

    def load(self, dump: Path) -> None:
        done = self.program(PROGRAMS / "load-dump", dump, self.restored)
        assert done.returncode == 0, done.stderr

    def check(self, dump: Path) -> str:
        """Run the restore check in a separate PostgreSQL -> the row counts of each table."""
        work = self.folder / "check"
        work.mkdir(mode=0o777)
        work.chmod(0o777)
        with dump.open("rb") as given:
            done = subprocess.run(
                [*unprivileged(self.folder, PROGRAMS, bin_dir()), PROGRAMS / "restore-check", work],
                stdin=given, cwd=self.folder, env=self.environ(), capture_output=True, text=True, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert list(work.iterdir()) == []
        return done.stdout

    def demand_unharmed(self) -> None:
        assert not self.marker.exists(), "the attack ran as a superuser"
        assert self.ask("postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = 'ra_app'", "postgres") == [(False,)]


@pytest.fixture
def site(services: Services) -> Iterator[Site]:
    """An empty database; the test applies a schema."""
    folder = Path(tempfile.mkdtemp(prefix="site-"))  # not under pytest's: others than its owner come here, too
    folder.chmod(0o777)
    name = f"site_{secrets.token_hex(4)}"
    services.make_database(f"{name}_roles")  # brings the login roles and their passwords
    services.drop_database(f"{name}_roles")
    made = Site(services, name, folder, folder / "superuser-was-here")
    made.ask("postgres", f"CREATE DATABASE {name}", "postgres")
    yield made
    made.ask("postgres", "ALTER ROLE ra_app NOSUPERUSER", "postgres")
    for database in (name, made.restored):
        services.drop_database(database)
    shutil.rmtree(folder)


@pytest.fixture
def old_site(site: Site) -> Site:
    """With the schema of version 3, where ra_app makes its tables in public."""
    site.apply(VERSION_3)
    return site


@pytest.fixture
def new_site(site: Site) -> Site:
    site.apply()
    return site
