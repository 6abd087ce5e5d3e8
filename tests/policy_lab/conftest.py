from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from config import Settings
from db import TranscriptArchive
from tests.policy_lab.archive import Archive
from tests.workers.conftest import query  # noqa: F401 -- a fixture


@pytest.fixture
def archive(settings: Settings, database: Any, query: Any) -> Iterator[Archive]:  # noqa: F811
    """The stored transcripts: none at the start."""
    connection = psycopg2.connect(database.admin_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE batches, operator_actions CASCADE")
    connection.close()
    opened = TranscriptArchive(settings)
    yield Archive(opened, query)
    opened.close()
