"""A connection to Postgres: opened when first used, opened again after it broke; each use is one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import psycopg2.extensions

from config import Settings
from errors import OperatorError, PermanentError, RetryableError, ServiceUnavailableError
from results.connection import connect
from results.rows import one_row
from system import tls_errors

SCHEMA_VERSION = 8  # of schema.sql; workers wait for it
MIN_SERVER_VERSION = 140000


class Session:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: psycopg2.extensions.connection | None = None

    def check(self) -> None:
        """Reach the database and find our schema; raises OperatorError with one sentence."""
        with self._transaction() as cursor:
            server = cursor.connection.server_version
            if server < MIN_SERVER_VERSION:
                raise OperatorError(f"Postgres is version {server // 10000}, but 14 or newer is needed")
            cursor.execute("SELECT to_regclass('schema_version') IS NOT NULL")
            version = 0
            if one_row(cursor)[0]:
                cursor.execute("SELECT coalesce(max(version), 0) FROM schema_version")
                version = one_row(cursor)[0]
        if version < SCHEMA_VERSION:
            raise OperatorError(
                f"the database {self._settings.postgres_db} has schema version {version}, but this release needs "
                f"{SCHEMA_VERSION}; apply schema.sql: psql -d {self._settings.postgres_db} -f schema.sql"
            )

    def server_time(self) -> float:
        """The server's clock, in Unix seconds."""
        with self._transaction() as cursor:
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            return float(one_row(cursor)[0])

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[psycopg2.extensions.cursor]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._settings)
            with self._connection, self._connection.cursor() as cursor:
                yield cursor
        except psycopg2.errors.ProgramLimitExceeded as error:  # to psycopg2 an OperationalError, but the input's fault
            raise PermanentError(f"Postgres cannot store this, part of it is too long ({_brief(error)})") from error
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self.close()
            if refused := tls_errors.explained(
                error, "Postgres", "POSTGRES_HOST", "POSTGRES_CA_FILE", "POSTGRES_PORT and POSTGRES_SSLMODE"
            ):
                raise ServiceUnavailableError(refused) from error
            raise ServiceUnavailableError(
                f"Postgres at {self._settings.postgres_host}:{self._settings.postgres_port} cannot be used; check that "
                f"it listens, pg_hba.conf, POSTGRES_USER, POSTGRES_PASSWORD ({_brief(error)})"
            ) from error
        except psycopg2.errors.InsufficientPrivilege as error:
            raise OperatorError(f"the database refuses us; apply schema.sql again ({_brief(error)})") from error
        except psycopg2.Error as error:
            raise RetryableError(f"Postgres refused a statement ({_brief(error)})") from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
