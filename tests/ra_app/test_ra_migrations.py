"""The app's schema: only migrations create it, and they do not touch the pipeline's tables."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg2
import psycopg2.errors
import pytest

from app.config import APP_ROOT
from local.services import Database
from tests.ra_app.serving import run
from tests.ra_app.world import World

PIPELINE_TABLES = ("batches", "audio_files", "transcripts", "classifications", "schema_version", "ra_queue")
TABLES = {
    "ra_users",
    "ra_assignments",
    "ra_labels",
    "ra_login_attempts",
    "ra_known_networks",
    "ra_codebooks",
    "ra_studies",
    "ra_items",
    "ra_declines",
    "ra_drafts",
    "ra_audit",
    "ra_exposures",
    "ra_pseudonyms",
    "ra_links",
    "ra_account_changes",
    "ra_preferences",
    "ra_wellbeing",
    "ra_identities",
    "ra_study_members",
    "ra_codebook_drafts",
    "ra_acts",
    "ra_references",
    "ra_decisions",
    "ra_receipts",
    "ra_exports",
    "ra_alembic_version",
}
VERSIONS = sorted((APP_ROOT / "migrations" / "versions").glob("*.py"))


def _tables(dsn: str) -> set[str]:
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname IN ('public', 'ra_app')")
            return {row[0] for row in cursor.fetchall()}
    finally:
        connection.close()


def test_before_the_upgrade_a_command_says_what_to_run(ra_env: dict[str, str]) -> None:
    result = run("flask users list", ra_env)
    assert result.returncode == 1
    assert "Run `flask db upgrade` first" in result.stderr


@pytest.mark.usefixtures("app")
def test_the_migrations_make_the_apps_tables_and_no_others(database: Database) -> None:
    connection = psycopg2.connect(database.admin_dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT tablename FROM pg_tables WHERE tableowner = 'ra_app'")
            assert {row[0] for row in cursor.fetchall()} == TABLES
    finally:
        connection.close()


@pytest.mark.thorough
def test_upgrade_downgrade_and_upgrade_again_touch_only_the_apps_tables(
    database: Database, ra_env: dict[str, str]
) -> None:
    before = _tables(database.admin_dsn)
    assert run("flask db upgrade", ra_env).returncode == 0
    ours = _tables(database.admin_dsn) - before
    assert ours == TABLES
    assert run("flask db downgrade base", ra_env).returncode == 0
    assert _tables(database.admin_dsn) - before == {"ra_alembic_version"}
    assert run("flask db upgrade", ra_env).returncode == 0
    assert run("flask db upgrade", ra_env).returncode == 0  # a deploy without changes


@pytest.mark.usefixtures("app")
def test_autogenerate_sees_no_change_and_writes_no_file(ra_env: dict[str, str]) -> None:
    result = run('flask db migrate -m "should find nothing"', ra_env)
    left = sorted((APP_ROOT / "migrations" / "versions").glob("*.py"))
    for path in set(left) - set(VERSIONS):
        path.unlink()
    assert result.returncode == 0, result.stderr
    assert "No changes in schema detected." in result.stderr
    assert left == VERSIONS


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_no_migration_names_a_table_of_the_pipeline(path: Path) -> None:
    text = path.read_text()
    for name in PIPELINE_TABLES:
        assert not re.search(rf"['\"]{name}['\".]", text), f"{path.name} touches {name}"


@pytest.mark.usefixtures("app")
def test_a_user_made_by_the_release_before_can_be_used(world: World) -> None:
    """That release does not know the new columns."""
    world.sql("INSERT INTO ra_users (username, pseudonym, password_hash) VALUES ('mira', 'RA-7KQ2M', 'x')")
    assert world.sql("SELECT session_epoch, unlocked_until FROM ra_users") == [(0, None)]


@pytest.mark.thorough
def test_history_shows_the_migrations(ra_env: dict[str, str]) -> None:
    result = run("flask db history", ra_env)
    assert result.returncode == 0
    assert "(head)" in result.stdout


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO batches (batch_id) VALUES ('x')",
        "UPDATE audio_files SET status = 'failed'",
        "DELETE FROM transcripts",
        "TRUNCATE classifications",
        "DROP VIEW ra_queue",
        "ALTER TABLE audio_files ADD COLUMN x int",
        "CREATE TABLE ra_x (a bigint REFERENCES audio_files)",
    ],
)
def test_the_apps_role_can_only_read_the_pipelines_tables(database: Database, statement: str) -> None:
    _forbidden(database.ra_app_dsn, statement)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    "table",
    [
        "ra_users",
        "ra_assignments",
        "ra_labels",
        "ra_login_attempts",
        "ra_known_networks",
        "ra_drafts",
        "ra_pseudonyms",
        "ra_links",
        "ra_account_changes",
        "ra_preferences",
        "ra_wellbeing",
        "ra_identities",
        "ra_study_members",
        "ra_codebook_drafts",
        "ra_acts",
        "ra_references",
        "ra_decisions",
        "ra_receipts",
        "ra_exports",
    ],
)
def test_the_pipelines_role_cannot_touch_the_apps_tables(database: Database, table: str) -> None:
    for statement in ("SELECT * FROM", "DELETE FROM", "TRUNCATE", "DROP TABLE"):
        _forbidden(database.pipeline_dsn, f"{statement} ra_app.{table}")


def _forbidden(dsn: str, statement: str) -> None:
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement)
    finally:
        connection.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ra_users SET role = 'boss'",
        "UPDATE ra_assignments SET state = 'lost'",
        "UPDATE ra_assignments SET state = 'free'",
        "UPDATE ra_assignments SET user_id = NULL",
        "UPDATE ra_studies SET mode = 'open'",
        "UPDATE ra_studies SET shows = '{score}'",
        "UPDATE ra_items SET inclusion_probability = 0",
        (
            "INSERT INTO ra_assignments (audio_id, item_id, coder_number, study_id, position, user_id) "
            "SELECT audio_id + 1, item_id, coder_number + 1, study_id, position, user_id FROM ra_assignments"
        ),
        "INSERT INTO ra_assignments (audio_id, user_id) SELECT audio_id, user_id FROM ra_assignments",
        (
            "INSERT INTO ra_labels (assignment_id, submission_key, codebook_id, codebook_version, labels, blind) "
            "SELECT assignment_id, gen_random_uuid(), 'c', '1', '[]', true FROM ra_assignments"
        ),
        (
            "INSERT INTO ra_links (kind, token_sha256, role, made_by, expires_at) "
            "SELECT 'reset', 'x', 'admin', user_id, now() FROM ra_users"
        ),
        (
            "INSERT INTO ra_links (kind, token_sha256, made_by, expires_at) "
            "SELECT 'invite', 'x', user_id, now() FROM ra_users"
        ),
        "INSERT INTO ra_account_changes (event) VALUES ('deleted')",
        "INSERT INTO ra_wellbeing (user_id, event) SELECT user_id, 'seen' FROM ra_users",
    ],
)
def test_the_tables_refuse_what_the_app_would_never_write(world: World, change: str) -> None:
    world.add_user("mira")
    world.sql("INSERT INTO ra_assignments (audio_id, user_id) SELECT 1, user_id FROM ra_users")
    with pytest.raises(psycopg2.errors.IntegrityError):
        world.sql(change)
