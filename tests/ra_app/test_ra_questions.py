"""The queries that the group's people send to `ra_users`, `ra_assignments` and `ra_labels`, and what they find."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest

from local.services import Database
from tests.ra_app.world import Visitor, World

QUESTIONS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "how far everybody is": (
        """
        SELECT username, state, count(*) FROM ra_assignments JOIN ra_users USING (user_id)
        GROUP BY 1, 2 ORDER BY 1, 2
        """,
        [("jo", "submitted", 1), ("mira", "open", 1), ("mira", "skipped", 1), ("mira", "submitted", 2)],
    ),
    "how much is left": ("SELECT count(*) FROM ra_assignments WHERE state = 'free'", [(2,)]),
    "the label that counts, of each clip": (
        """
        SELECT a.audio_id, u.pseudonym = p.pseudonym, l.labels, l.note FROM ra_labels l
        JOIN ra_assignments a USING (assignment_id) JOIN ra_users u USING (user_id) JOIN ra_pseudonyms p USING (user_id)
        WHERE NOT EXISTS (SELECT FROM ra_labels n WHERE n.revision_of = l.label_id) ORDER BY 1, a.assignment_id
        """,
        [(1, True, ["unsure"], "second"), (2, True, ["hate"], ""), (5, True, ["scam"], "")],
    ),
    "first labels that were blind": ("SELECT count(*) FROM ra_labels WHERE blind AND revision_of IS NULL", [(3,)]),
    "labels of a day": ("SELECT count(*) FROM ra_labels WHERE created_at > now() - interval '1 day'", [(4,)]),
    "corrections": (
        """
        SELECT a.audio_id, o.labels, n.labels FROM ra_labels n JOIN ra_labels o ON o.label_id = n.revision_of
        JOIN ra_assignments a ON a.assignment_id = n.assignment_id
        """,
        [(1, ["hate"], ["unsure"])],
    ),
    "who has which clip now": (
        """
        SELECT audio_id, username, claimed_until > now() FROM ra_assignments JOIN ra_users USING (user_id)
        WHERE state = 'open'
        """,
        [(4, "mira", True)],
    ),
    "how long a clip took": (
        "SELECT count(*) FROM ra_assignments WHERE submitted_at - opened_at < interval '1 hour'",
        [(3,)],
    ),
    "which clips had the verdict shown": ("SELECT audio_id FROM ra_assignments WHERE revealed_at IS NOT NULL", [(2,)]),
    "clips that a policy flagged and an RA confirmed or not": (
        """
        SELECT c.policy, l.labels ->> 0 FROM ra_labels l JOIN ra_assignments a USING (assignment_id)
        JOIN verdicts_in_force c USING (audio_id) WHERE c.violates AND l.revision_of IS NULL AND a.audio_id = 5
        """,
        [("policy-zeta-7f3", "scam")],
    ),
    "which policies a label is the answer to": (
        """
        SELECT a.audio_id, policy FROM ra_labels l JOIN ra_assignments a USING (assignment_id)
        JOIN ra_codebooks b ON b.sha256 = l.codebook_sha256
        CROSS JOIN LATERAL jsonb_array_elements(b.content -> 'labels') entry
        CROSS JOIN LATERAL jsonb_array_elements_text(entry -> 'policies') policy
        WHERE l.labels ? (entry ->> 'code') ORDER BY l.label_id
        """,
        [(1, "hate-speech"), (2, "hate-speech"), (5, "scams-and-fraud")],
    ),
}


@pytest.fixture
def at_work(mira: Visitor, world: World, visitor: Visitor) -> None:
    first, second, third, fourth, fifth, _ = (world.add_clip() for _ in range(6))
    world.add_clip()
    mira.label(first, "hate", note="first")
    mira.label(first, "unsure", note="second")
    mira.label(second, "hate")
    mira.post(f"/review/{second}/reveal")
    mira.post(f"/review/{third}/skip")
    assert mira.claim() == fourth
    world.add_user("jo")
    visitor.log_in("jo")
    visitor.hold(fifth)
    visitor.post(f"/review/{fifth}", {**visitor.form(fifth), "label": "scam"})
    visitor.post(f"/review/{visitor.claim()}/skip")
    world.sql("UPDATE ra_assignments SET state = 'free', user_id = NULL WHERE audio_id > 5")


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_of_the_group_is_answered(database: Database, question: str) -> None:
    query, answer = QUESTIONS[question]
    connection = psycopg2.connect(database.ra_app_dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            assert cursor.fetchall() == answer
    finally:
        connection.close()
