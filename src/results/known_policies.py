"""The text of each policy version that workers have used: under one version there is one text, for ever.

Verdicts name a policy's version. If two texts had the same version, nobody could tell which of them a verdict is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psycopg2.extensions
import psycopg2.extras

from errors import PolicyError
from moderation.policies import Policy
from results.values import storable


def record(cursor: psycopg2.extensions.cursor, policies: Iterable[Policy], directory: Path) -> None:
    """Store the versions that are new, unless one of the others was edited; then raises PolicyError."""
    rows = list(policies)
    psycopg2.extras.execute_values(
        cursor,
        "INSERT INTO policies (policy, version, sha256, title, text) VALUES %s ON CONFLICT DO NOTHING",
        [(policy.id, policy.version, policy.sha256, storable(policy.title), storable(policy.body)) for policy in rows],
    )
    check(cursor, rows, directory)  # last, since another worker may have stored another text at this moment


def check(cursor: psycopg2.extensions.cursor, policies: Iterable[Policy], directory: Path) -> None:
    """Raise PolicyError if a policy has another text than the one that is stored under its version."""
    cursor.execute("SELECT policy, version, sha256, first_seen_at FROM policies")
    known = {(policy, version): (sha256, at) for policy, version, sha256, at in cursor.fetchall()}
    for policy in policies:
        sha256, at = known.get((policy.id, policy.version), (policy.sha256, None))
        if sha256 != policy.sha256:
            raise PolicyError(
                f"{directory / policy.id}.md has been edited, but still says version {policy.version}, under which "
                f"workers have used another text since {at:%Y-%m-%d}; give the edited text a new version, or put the "
                "old text back, which the table policies holds"
            )
