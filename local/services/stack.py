"""All four services together: starts and stops them, returns their settings, and creates databases and buckets."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Protocol, Self

from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from local.services.commands import write_commands
from local.services.postgres import ADMIN, Postgres
from local.services.process import ServerProcess, ServiceError
from local.services.ssh import SshHost
from local.services.state import State
from local.services.swift import REGION, Swift
from local.services.valkey import Valkey

SCHEMA = Path(__file__).resolve().parents[2] / "schema.sql"
DATABASE = "audio_pipeline"
BUCKET = "audio-archives"
ROLES = ("pipeline", "ra_app")


class _Service(Protocol):
    @property
    def processes(self) -> list[ServerProcess]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class Database:
    """One database with the pipeline's schema, and the connection string of each role (with its password)."""

    name: str
    admin_dsn: str
    pipeline_dsn: str
    ra_app_dsn: str
    ra_app_url: str


class Services:
    """The services in one data directory. `durable=False` (for tests) is faster but not safe if the power fails."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root
        self.state = State(root)
        self.valkey = Valkey(root, self.state, durable=durable)
        self.postgres = Postgres(root, self.state, durable=durable)
        self.swift = Swift(root, self.state)
        self.ssh = SshHost(root, self.state)
        self._all: tuple[_Service, ...] = (self.valkey, self.postgres, self.swift, self.ssh)
        self._turns: dict[_Service, Lock] = {service: Lock() for service in self._all}  # to start or stop it
        self._closing = False
        self._lock: TextIOWrapper | None = None

    # The addresses and methods for callers, who do not need to know the single services.
    redis_host = postgres_host = "127.0.0.1"

    @property
    def redis_port(self) -> int:
        return self.valkey.port

    @property
    def redis_password(self) -> str:
        return self.valkey.password

    @property
    def postgres_port(self) -> int:
        return self.postgres.port

    @property
    def s3_endpoint(self) -> str:
        return self.swift.endpoint

    @property
    def s3_access_key(self) -> str:
        return self.swift.access_key

    @property
    def s3_secret_key(self) -> str:
        return self.swift.secret_key

    @property
    def bin_dir(self) -> Path:
        """Return the folder for PATH with `redis-cli` and `psql`."""
        return self.root / "bin"

    @property
    def processes(self) -> list[ServerProcess]:
        return [process for service in self._all for process in service.processes]

    def start(self) -> None:
        """Start all four at the same time and wait until each answers.

        Raises
        ------
        ServiceError
            One did not start (with the tail of its log), or another program uses this directory. Nothing is left
            running.
        """
        self.claim()
        self._closing = False
        try:
            with ThreadPoolExecutor(len(self._all)) as pool:
                for started in [pool.submit(self._start, service) for service in self._all]:
                    started.result()
            write_commands(self.bin_dir)
        except BaseException:  # raised again: stop the services that have started already
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all services that this object has started, in parallel. It may be called twice."""
        self._closing = True
        with ThreadPoolExecutor(len(self._all)) as pool:
            for stopped in [pool.submit(self._stop, service) for service in self._all]:
                stopped.result()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _start(self, service: _Service) -> None:
        # A signal while the pool makes its thread leaves a thread that the pool does not know and does not wait for.
        with self._turns[service]:
            if not self._closing:
                service.start()

    def _stop(self, service: _Service) -> None:
        with self._turns[service]:
            service.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def environ(
        self,
        *,
        database: str = DATABASE,
        bucket: str = BUCKET,
        redis_db: int = 0,
    ) -> dict[str, str]:
        """Return the pipeline's settings for these services as environment variables. They contain secrets."""
        return {
            "REDIS_HOST": self.redis_host,
            "REDIS_PORT": str(self.redis_port),
            "REDIS_PASSWORD": self.redis_password,
            "REDIS_DB": str(redis_db),
            "POSTGRES_HOST": self.postgres_host,
            "POSTGRES_PORT": str(self.postgres_port),
            "POSTGRES_DB": database,
            "POSTGRES_USER": "pipeline",
            "POSTGRES_PASSWORD": self.postgres.password("pipeline"),
            "S3_ENDPOINT": self.s3_endpoint,
            "S3_ACCESS_KEY": self.s3_access_key,
            "S3_SECRET_KEY": self.s3_secret_key,
            "S3_BUCKET": bucket,
            "S3_REGION": REGION,
            **self.ssh.environ(),
        }

    def ra_app_environ(self, *, database: str = DATABASE, bucket: str = BUCKET) -> dict[str, str]:
        """Return the RA app's settings, with its own database role and read-only S3 keys."""
        return {
            "DATABASE_URL": self.database_url(database),
            "SECRET_KEY": self.state.secret("ra-app-secret-key", 64),
            "S3_ENDPOINT": self.s3_endpoint,
            "S3_ACCESS_KEY": self.swift.reader_access_key,
            "S3_SECRET_KEY": self.swift.reader_secret_key,
            "S3_BUCKET": bucket,
            "S3_REGION": REGION,
        }

    def database_url(self, database: str = DATABASE) -> str:
        """`DATABASE_URL` of the RA app (role ra_app)."""
        return self.postgres.url("ra_app", database)

    def make_bucket(self, name: str = BUCKET) -> None:
        self.swift.make_bucket(name)

    def drop_bucket(self, name: str) -> None:
        self.swift.drop_bucket(name)

    def make_database(self, name: str = DATABASE) -> Database:
        """Create a database unless it exists, apply `schema.sql`, set the roles' passwords."""
        connection = self.postgres.admin()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        finally:
            connection.close()
        self.apply_schema(name)
        return self.database(name)

    def copy_database(self, template: str, name: str) -> Database:
        """Create a database as a copy of another one, to which nobody may be connected. Quicker than `make_database`.

        The database `name` is replaced if it exists.
        """
        self.drop_database(name)
        connection = self.postgres.admin()
        try:
            with connection.cursor() as cursor:
                copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
                cursor.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
        finally:
            connection.close()
        return self.database(name)

    def database(self, name: str = DATABASE) -> Database:
        """Return the connection strings of a database, which may not exist yet."""
        postgres = self.postgres
        return Database(
            name,
            postgres.dsn(ADMIN, name),
            postgres.dsn("pipeline", name),
            postgres.dsn("ra_app", name),
            postgres.url("ra_app", name),
        )

    def apply_schema(self, database: str = DATABASE) -> None:
        """Apply `schema.sql` (idempotent) and give its two roles their passwords."""
        self.postgres.psql(database, SCHEMA)
        connection = self.postgres.admin()
        try:
            with connection.cursor() as cursor:
                for role in ROLES:
                    sealed = encrypt_password(self.postgres.password(role), role, connection, "scram-sha-256")
                    cursor.execute(
                        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(sealed))
                    )
        finally:
            connection.close()

    def drop_database(self, name: str) -> None:
        """Drop a database with all its connections."""
        connection = self.postgres.admin()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        finally:
            connection.close()

    def claim(self) -> None:
        """Lock the directory for this program until `stop()`. Raises ServiceError if another program has the lock."""
        if self._lock is not None:
            return
        self.root.mkdir(parents=True, exist_ok=True)
        file = (self.root / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise ServiceError(f"Process {holder} already runs the services in {self.root}; stop it first.") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._lock = file
