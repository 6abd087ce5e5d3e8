from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from config import Settings
from db import TranscriptArchive
from tests.policy_lab.archive import Archive


@pytest.fixture
def archive(settings: Settings, query: Any) -> Iterator[Archive]:
    """The stored transcripts: none at the start."""
    query("TRUNCATE batches, operator_actions, policies CASCADE")
    opened = TranscriptArchive(settings)
    yield Archive(opened, query, settings)
    opened.close()
