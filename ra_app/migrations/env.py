"""Runs the app's migrations. The pipeline uses the same database, and migrations must not touch its tables. So Alembic
compares only tables whose names begin with `ra_`. The view `ra_queue` belongs to the pipeline, too.
"""

from __future__ import annotations

import logging
from logging.config import fileConfig
from typing import Any

import sqlalchemy as sa
from alembic import context
from flask import current_app

from app.models import Base

VERSION_TABLE = "ra_alembic_version"
MIGRATION_LOCK = 0x7261_6170  # "raap": two deploys at once take turns

config = context.config
if config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)
logger = logging.getLogger("alembic.env")


def ours(name: str | None, kind: str, _parents: Any) -> bool:
    """Whether autogenerate compares this object of the database. Columns and indexes follow their table."""
    return kind != "table" or (name is not None and name.startswith("ra_"))


def drop_empty(_context: Any, _revision: Any, directives: list[Any]) -> None:
    """Write no migration file if nothing has changed."""
    if getattr(config.cmd_opts, "autogenerate", False) and directives[0].upgrade_ops.is_empty():
        directives[:] = []
        logger.info("No changes in schema detected.")


def configure(**target: Any) -> None:
    context.configure(
        **target,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        include_name=ours,
        compare_type=True,
        process_revision_directives=drop_empty,
    )


def run_offline() -> None:
    """Write the SQL instead of running it (`flask db upgrade --sql`)."""
    configure(url=current_app.config["SQLALCHEMY_DATABASE_URI"], literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    with current_app.extensions["migrate"].db.engine.connect() as connection:
        configure(connection=connection)
        with context.begin_transaction():
            # A migration may take longer than a web request. But a long wait for a lock would block the app.
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SET LOCAL lock_timeout = '30s'"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
