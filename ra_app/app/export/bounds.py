"""Fixes what a snapshot holds: the largest numbers of its rows, and which policies have judged its clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

LOCK_TIMEOUT_MS = 10_000
TABLES = ("ra_labels", "ra_decisions", "ra_references")


def fix(connection: Connection) -> dict[str, Any]:
    """Return the largest numbers in one moment. The connection is at the beginning of a REPEATABLE READ transaction.

    The lock waits until everybody who is storing a row has ended, and makes others wait until this transaction ends. So
    a row with a smaller number can never appear later, and the same bounds always mean the same rows.
    """
    connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
    connection.execute(sa.text(f"LOCK TABLE {', '.join(TABLES)} IN SHARE MODE"))
    row = connection.execute(
        sa.text(
            "SELECT (SELECT coalesce(max(label_id), 0) FROM ra_labels) AS labels, "
            "(SELECT coalesce(max(decision_id), 0) FROM ra_decisions) AS decisions, "
            "(SELECT coalesce(max(reference_id), 0) FROM ra_references) AS references, now() AS at"
        )
    ).one()
    return {"labels": row[0], "decisions": row[1], "references": row[2], "at": row[3].isoformat()}


def count(connection: Connection, studies: Sequence[int], labels: int) -> int:
    """Return how many rows the snapshot has."""
    query = sa.text(
        "SELECT count(*) FROM ra_labels l JOIN ra_assignments a USING (assignment_id) "
        "WHERE a.study_id = ANY(:studies) AND l.label_id <= :labels"
    )
    return int(connection.execute(query, {"studies": list(studies), "labels": labels}).scalar_one())


def policies(connection: Connection, studies: Sequence[int]) -> list[str]:
    """Return the policies that have judged a clip of these studies, in order."""
    query = sa.text(
        "SELECT DISTINCT c.policy FROM classifications c "
        "WHERE c.audio_id IN (SELECT audio_id FROM ra_items WHERE study_id = ANY(:studies))"
    )
    return sorted(connection.execute(query, {"studies": list(studies)}).scalars())
