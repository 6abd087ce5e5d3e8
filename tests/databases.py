"""Databases for tests: copies of one to which `schema.sql` was applied once. A copy takes a tenth of the time."""

from __future__ import annotations

import secrets
from functools import cache

from local.services import Database, Services

TEMPLATE = "template_schema"


@cache
def _template(services: Services) -> str:
    return services.make_database(TEMPLATE).name


def fresh_database(services: Services, prefix: str) -> Database:
    """Create a database with the pipeline's schema under a new name that begins with `prefix`."""
    return services.copy_database(_template(services), f"{prefix}_{secrets.token_hex(6)}")
