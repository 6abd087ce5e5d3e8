from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.workers.conftest import put_archive, query, store, worker  # noqa: F401 -- fixtures

ROOT = Path(__file__).resolve().parents[2]
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _empty_tables(database: Any) -> None:
    connection = psycopg2.connect(database.admin_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE batches, operator_actions CASCADE")
    connection.close()


@pytest.fixture
def cli(settings_env: dict[str, str]) -> Cli:
    """Run `audio-pipeline` as an operator does: `cli("status", "--json")`; further settings by name."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings_env, **more}
        return subprocess.run(
            [sys.executable, str(ROOT / "src/cli.py"), *arguments],
            env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip

    return run


@pytest.fixture
def actions(query: Any) -> Callable[[], list[tuple[Any, ...]]]:  # noqa: F811
    """What the audit table says: (action, subject, affected)."""
    return lambda: query("SELECT action, subject, affected FROM operator_actions ORDER BY action_id")


def letter(number: int, **more: Any) -> bytes:
    """A dead letter of the unpack worker."""
    fields = {
        "queue": "queue:unpack",
        "payload": json.dumps({"batch_id": f"b{number}", "s3_key": f"archives/b{number}.tar"}),
        "error_class": "ArchiveError",
        "error": f"archives/b{number}.tar is damaged at member {number}",
        "permanent": True, "attempts": 1, "interruptions": 0, "batch_id": None, "clip": None, "parked_s3_key": None,
        "worker": "h:1:n", "host": "h", "failed_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return json.dumps({**fields, **more}).encode()
