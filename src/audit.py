"""Who changed what, when and how much of it: one row in `operator_actions` for every change by the command line."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from typing import Any

from db import Database
from db_values import json_text


def who() -> str:
    """The person at the keyboard, as well as the system knows: login name, with the name behind sudo, and host."""
    import os

    name = os.environ.get("SUDO_USER") or getpass.getuser()
    return f"{name}@{socket.gethostname()}"


class AuditLog(Database):
    def record(self, action: str, subject: str, affected: int, details: Mapping[str, Any] | None = None) -> None:
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO operator_actions (who, action, subject, affected, details) VALUES (%s, %s, %s, %s, %s)",
                (who(), action, subject, affected, json_text(dict(details or {}))),
            )
