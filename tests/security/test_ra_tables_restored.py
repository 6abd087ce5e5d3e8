"""A backup of the RA app's own tables is restored with their rows and with the triggers that keep labels unchanged."""

from __future__ import annotations

import psycopg2
import pytest

from tests.ra_app.serving import run
from tests.security.conftest import Site

FILL = """
INSERT INTO ra_users (username, pseudonym, password_hash) VALUES ('mira', 'RA-7KQ2M', 'x');
INSERT INTO ra_assignments (audio_id, user_id, state) SELECT 7, user_id, 'submitted' FROM ra_users;
INSERT INTO ra_labels (assignment_id, submission_key, codebook_id, codebook_version, labels, blind)
SELECT assignment_id, gen_random_uuid(), 'c', '2', '["hate"]', true FROM ra_assignments;
INSERT INTO ra_audit (user_id, event, audio_id) SELECT user_id, 'labelled', 7 FROM ra_users;
INSERT INTO ra_account_changes (event, user_id) SELECT 'created', user_id FROM ra_users;
INSERT INTO ra_wellbeing (event, user_id) SELECT 'hidden', user_id FROM ra_users;
INSERT INTO ra_preferences (content, user_id) SELECT '{"veil": false}', user_id FROM ra_users;
"""


@pytest.fixture
def filled(new_site: Site) -> Site:
    environ = {
        **new_site.services.ra_app_environ(database=new_site.name, bucket="unused"),
        "FLASK_ENV": "development",
        "FLASK_APP": "app",
    }
    upgraded = run("flask db upgrade", environ)
    assert upgraded.returncode == 0, upgraded.stderr
    new_site.ask("ra_app", FILL)
    return new_site


def test_the_tables_of_the_ra_app_are_restored_with_their_triggers(filled: Site) -> None:
    dump = filled.dump()
    assert "ra_labels|1" in filled.check(dump).splitlines()
    filled.load(dump)
    kept = "SELECT pseudonym, state, coder_number, labels FROM ra_labels JOIN ra_assignments USING (assignment_id) "
    kept += "JOIN ra_pseudonyms USING (user_id)"
    assert filled.ask("ra_app", kept, filled.restored) == [("RA-7KQ2M", "submitted", 1, ["hate"])]
    for statement in (
        "UPDATE ra_labels SET note = 'x'",
        "DELETE FROM ra_audit",
        "DELETE FROM ra_account_changes",
        "UPDATE ra_wellbeing SET user_id = 1",
    ):
        with pytest.raises(psycopg2.errors.RestrictViolation):
            filled.ask("ra_app", statement, filled.restored)
    assert filled.ask("ra_app", "SELECT content FROM ra_preferences", filled.restored) == [({"veil": False},)]
    again = "INSERT INTO ra_users (username, pseudonym, password_hash) VALUES ('jo', 'RA-23456', 'x')"
    filled.ask("ra_app", again, filled.restored)
    assert filled.ask("ra_app", "SELECT count(*) FROM ra_pseudonyms", filled.restored) == [(2,)]
