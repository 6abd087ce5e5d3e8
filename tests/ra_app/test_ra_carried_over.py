"""The migration to studies and slots, up and down, in a database that the release before has filled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from local.services import Database
from tests.ra_app.serving import run

BEFORE = "8b41c07d2e96"
FILL = """
INSERT INTO ra_users (username, pseudonym, password_hash, role) VALUES
    ('mira', 'RA-7KQ2M', 'x', 'ra'), ('jo', 'RA-23456', 'x', 'lead');
INSERT INTO ra_assignments (audio_id, user_id, state, submitted_at, revealed_at) VALUES
    (11, 1, 'open', NULL, NULL), (11, 2, 'submitted', now(), NULL), (12, 1, 'submitted', now(), now()),
    (13, 1, 'skipped', NULL, NULL), (14, 2, 'open', NULL, NULL);
INSERT INTO ra_labels (assignment_id, submission_key, codebook_id, codebook_version, labels, confidence, note, blind,
                       revision_of) VALUES
    (2, gen_random_uuid(), 'spoken-clips', '1', '["hate"]', 2, 'by jo', true, NULL),
    (3, gen_random_uuid(), 'spoken-clips', '1', '["hate"]', NULL, 'first', true, NULL),
    (3, gen_random_uuid(), 'spoken-clips', '1', '["unsure"]', NULL, 'second', false, 2);
"""
# What the group's people ask, and what the release before asks; each must be answered as before.
KEPT = (
    "SELECT user_id, username, pseudonym, role, active, created_at FROM ra_users ORDER BY 1",
    "SELECT audio_id, user_id, state, opened_at, submitted_at, revealed_at FROM ra_assignments ORDER BY 1, 2",
    "SELECT label_id, assignment_id, submission_key, codebook_id, codebook_version, labels FROM ra_labels ORDER BY 1",
    "SELECT label_id, confidence, note, blind, revision_of, created_at FROM ra_labels ORDER BY 1",
    "SELECT username, state, count(*) FROM ra_assignments JOIN ra_users USING (user_id) GROUP BY 1, 2 ORDER BY 1, 2",
    """
    SELECT a.audio_id, u.pseudonym, l.labels
    FROM ra_labels l JOIN ra_assignments a USING (assignment_id) JOIN ra_users u USING (user_id)
    WHERE NOT EXISTS (SELECT FROM ra_labels n WHERE n.revision_of = l.label_id) ORDER BY 1
    """,
)


class Filled:
    """The database at the revision before, filled, as an administrator sees it."""

    def __init__(self, database: Database, environ: dict[str, str]) -> None:
        self.environ = environ
        self._connection = psycopg2.connect(database.admin_dsn, options="-c search_path=ra_app,public")
        self._connection.autocommit = True

    def flask(self, command: str) -> None:
        done = run(f"flask {command}", self.environ)
        assert done.returncode == 0, done.stderr

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def filled(database: Database, ra_env: dict[str, str]) -> Iterator[Filled]:
    made = Filled(database, ra_env)
    made.flask(f"db upgrade {BEFORE}")
    made.ask(FILL)
    yield made
    made.close()


def test_up_and_down_keep_accounts_assignments_and_labels(filled: Filled) -> None:
    before = [filled.ask(query) for query in KEPT]
    assert all(before)
    filled.flask("db upgrade")
    assert [filled.ask(query) for query in KEPT] == before
    filled.ask(
        "INSERT INTO ra_assignments (audio_id, item_id, coder_number, study_id, position, state, opened_at) "
        "SELECT 14, item_id, 2, study_id, 14, 'free', NULL FROM ra_items WHERE audio_id = 14"
    )
    filled.ask("UPDATE ra_assignments SET opened_at = NULL WHERE audio_id = 99")
    filled.flask(f"db downgrade {BEFORE}")
    assert [filled.ask(query) for query in KEPT] == before
    filled.flask("db upgrade")
    assert [filled.ask(query) for query in KEPT] == before


def test_carried_assignments_are_slots_and_labels_come_first(filled: Filled) -> None:
    slots = filled.ask("SELECT audio_id, user_id, coder_number, state, claimed_until FROM ra_assignments ORDER BY 1, 3")
    assert slots == [
        (11, 2, 1, "submitted", None),
        (11, 1, 2, "open", None),
        (12, 1, 1, "submitted", None),
        (13, 1, 1, "skipped", None),
        (14, 2, 1, "open", None),
    ]
    assert filled.ask("SELECT audio_id, user_id, kind FROM ra_declines JOIN ra_items USING (item_id)") == [
        (13, 1, "skip")
    ]
    assert filled.ask("SELECT name, selection, mode, coders_per_item, lease_s, shows FROM ra_studies") == [
        ("Flagged clips", "flagged", "reveal", 1, 900, [])
    ]
    assert filled.ask("SELECT DISTINCT mode, codebook_sha256, transcript_id FROM ra_labels") == [("reveal", None, None)]
    assert filled.ask("SELECT pseudonym, user_id FROM ra_pseudonyms ORDER BY 2") == [("RA-7KQ2M", 1), ("RA-23456", 2)]


def test_a_row_with_a_clip_and_a_person_only_becomes_a_slot(filled: Filled) -> None:
    filled.ask("INSERT INTO ra_users (username, pseudonym, password_hash) VALUES ('ana', 'RA-99999', 'x')")
    filled.ask(
        "INSERT INTO ra_assignments (audio_id, user_id) "
        "SELECT audio_id, user_id FROM ra_users, (VALUES (12), (15)) c (audio_id) WHERE username = 'ana'"
    )
    assert filled.ask(
        "SELECT a.audio_id, a.coder_number, a.state, i.position FROM ra_assignments a JOIN ra_items i USING (item_id) "
        "JOIN ra_users u USING (user_id) WHERE username = 'ana' ORDER BY 1"
    ) == [(12, 2, "open", 12), (15, 1, "open", 15)]
    assert filled.ask(
        "SELECT p.pseudonym FROM ra_pseudonyms p JOIN ra_users USING (user_id) WHERE username = 'ana'"
    ) == [("RA-99999",)]


@pytest.mark.parametrize(
    "table", ["ra_labels", "ra_audit", "ra_exposures", "ra_codebooks", "ra_account_changes", "ra_wellbeing"]
)
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_what_is_only_added_to_refuses_changes(filled: Filled, table: str, statement: str) -> None:
    column = filled.ask(f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' LIMIT 1")[0][
        0
    ]
    with pytest.raises(psycopg2.errors.RestrictViolation, match="only ever added"):
        filled.ask(statement.format(table, column, column))
