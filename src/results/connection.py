"""How the pipeline connects to Postgres, and how it verifies that it is the right one."""

from __future__ import annotations

from typing import Any

import psycopg2
import psycopg2.extensions

from config import Settings

CONNECT_TIMEOUT_S = 10


def connect(settings: Settings) -> psycopg2.extensions.connection:
    tls: dict[str, Any] = tls_options(settings)
    connection: psycopg2.extensions.connection = psycopg2.connect(
        host=settings.postgres_host,
        port=settings.postgres_port,
        dbname=settings.postgres_db,
        user=settings.postgres_user,
        password=settings.postgres_password or None,
        connect_timeout=CONNECT_TIMEOUT_S,
        application_name="audio-pipeline",
        **tls,
        # A network that swallows packets: notice in about a minute, not after the system's two hours.
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        tcp_user_timeout=60_000,
    )
    return connection


def tls_options(settings: Settings) -> dict[str, str]:
    """How libpq verifies the server. The file is read at each connection: new authorities need no restart."""
    options: dict[str, str] = {"sslmode": settings.postgres_sslmode}
    if settings.postgres_ca_file is not None:
        options["sslrootcert"] = str(settings.postgres_ca_file)
    return options
