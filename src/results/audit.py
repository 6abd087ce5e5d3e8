"""Who changed what, when, and how much of it: rows of `operator_actions`, which nobody can alter afterwards.

A change has two rows: one before it begins, one with the count when it has ended. A program that is killed in between
leaves the first row, and when the first row cannot be written, nothing is changed.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from results.database import Database
from results.rows import one_row
from results.values import json_text, storable


@dataclass
class Change:
    """A change that is being made. Its maker counts in `affected` how much has been changed so far."""

    affected: int = 0
    details: dict[str, Any] = field(default_factory=dict)  # for the second row


class AuditLog(Database):
    @contextmanager
    def change(self, action: str, subject: str, planned: int, details: Mapping[str, Any]) -> Iterator[Change]:
        """Announce `planned` changes, let the caller make them, and record how many were made, also after an error."""
        begun = self._insert(action, subject, None, {**details, "planned": planned})
        done, end = Change(), dict[str, Any](begun=begun)
        try:
            yield done
        except BaseException as error:
            end["ended_by"] = f"{type(error).__name__}: {error}".rstrip(": ")
            raise
        finally:
            self._insert(action, subject, done.affected, {**end, **done.details})

    def _insert(self, action: str, subject: str, affected: int | None, details: Mapping[str, Any]) -> int:
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO operator_actions (who, action, subject, affected, details) VALUES (%s, %s, %s, %s, %s) "
                "RETURNING action_id",
                (storable(who()), action, storable(subject), affected, json_text(dict(details))),
            )
            return int(one_row(cursor)[0])


def who() -> str:
    """Who runs this program: the login name (with sudo, the name of the user who called it) and the host."""
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"
