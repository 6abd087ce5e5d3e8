from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import redis

from config import Settings
from db import Database
from s3_utils import ObjectStore
from tests.recovery.standing_batches import Site


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
