from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import redis
from hypothesis import HealthCheck, settings

from config import Settings
from db import Database
from s3_utils import ObjectStore
from tests.core.standing_batches import Site

# A busy machine must not fail a property: no deadline per example, and slow generation is no fault of ours.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


@pytest.fixture
def site(redis_db: redis.Redis, settings: Settings, database: Any) -> Iterator[Site]:
    """Empty tables and queues, and what puts batches into every state."""
    connection = psycopg2.connect(database.admin_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE batches CASCADE")
    connection.close()
    db = Database(settings)
    yield Site(redis_db, db, ObjectStore(settings))
    db.close()
