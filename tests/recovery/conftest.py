from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from config import Settings
from db import Database
from s3_utils import ObjectStore
from tests.recovery.standing_batches import Site


@pytest.fixture
def site(redis_db: redis.Redis, settings: Settings, query: Callable[..., Any]) -> Iterator[Site]:
    """Empty tables and queues, and the methods that bring batches into any state."""
    query("TRUNCATE batches CASCADE")
    db = Database(settings)
    yield Site(redis_db, db, ObjectStore(settings))
    db.close()
