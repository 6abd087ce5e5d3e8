"""From an earlier release: its database is brought up to date, and it works on the new schema, before and after."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from local.services import Services

SCHEMAS = Path(__file__).resolve().parents[1] / "security"

# As the releases with versions 5 and 6 write a clip's results; the latter also says more.
CLIP = """
INSERT INTO batches (batch_id) VALUES ('b1') ON CONFLICT DO NOTHING;
INSERT INTO audio_files (batch_id, original_filename, status, s3_opus_path)
VALUES ('b1', %(clip)s, %(status)s, 'processed/2026-01-01/1.opus')
ON CONFLICT (batch_id, original_filename) DO UPDATE SET status = EXCLUDED.status
RETURNING audio_id
"""
TRANSCRIPT = """
INSERT INTO transcripts (audio_id, model, text, language, language_probability, segments, speech_s, no_speech,
                         no_speech_reason, avg_logprob, no_speech_prob, compression_ratio)
VALUES (%(audio_id)s, 'base', %(text)s, 'en', 1, '[]', 1, %(no_speech)s, NULL, NULL, NULL, NULL)
ON CONFLICT (audio_id, model) DO UPDATE SET created_at = EXCLUDED.created_at, text = EXCLUDED.text,
    no_speech = EXCLUDED.no_speech
RETURNING transcript_id
"""
VERDICT = """
INSERT INTO classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model,
                             prompt_version, violates, score, threshold, mass, truncated)
VALUES (%(audio_id)s, %(transcript_id)s, 'hate-speech', '1.0.0', 'ab', 'm', 'p1', true, 0.9, 0.5, 1, false)
ON CONFLICT (audio_id, policy, policy_version, model) DO UPDATE SET
    transcript_id = EXCLUDED.transcript_id, score = EXCLUDED.score, created_at = EXCLUDED.created_at
RETURNING classification_id
"""
QUEUE = "SELECT original_filename, transcript, language, segments, policies, score FROM ra_queue"


@dataclass(frozen=True)
class Old:
    """A database that began with version 5, 6 or 7."""

    services: Services
    name: str

    def ask(self, query: str, role: str = "postgres", **values: Any) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.services.postgres.dsn(role, self.name))
        with connection, connection.cursor() as cursor:
            cursor.execute(query, values)
            found = cursor.fetchall() if cursor.description else []
        connection.close()
        return found

    def write(self, clip: str, text: str) -> None:
        """Write a clip's results as the earlier release does, with the pipeline's rights."""
        status = "done" if text else "no_speech"
        [(audio_id,)] = self.ask(CLIP, "pipeline", clip=clip, status=status)
        [(transcript_id,)] = self.ask(TRANSCRIPT, "pipeline", audio_id=audio_id, text=text, no_speech=not text)
        if text:
            self.ask(VERDICT, "pipeline", audio_id=audio_id, transcript_id=transcript_id)

    def upgrade(self) -> None:
        self.services.apply_schema(self.name)


@pytest.fixture(params=[5, pytest.param(6, marks=pytest.mark.thorough), 7])
def old(services: Services, request: pytest.FixtureRequest) -> Iterator[Old]:
    name = f"old_{secrets.token_hex(4)}"
    services.make_database(f"{name}_roles")  # brings the login roles and their passwords
    services.drop_database(f"{name}_roles")
    connection = services.postgres.admin()
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    services.postgres.psql(name, SCHEMAS / f"schema_version_{request.param}.sql", search_path="public")
    made = Old(services, name)
    made.write("a.mp3", "we meet")
    made.write("quiet.mp3", "")
    yield made
    services.drop_database(name)


def test_rows_of_the_release_before_are_kept_and_say_what_they_are(old: Old) -> None:
    before = old.ask(QUEUE, "ra_app")
    old.upgrade()
    old.upgrade()
    assert old.ask(QUEUE, "ra_app") == before != []
    found = old.ask("SELECT text, finding, reasons, not_judged FROM transcripts ORDER BY text DESC")
    assert found == [("we meet", "speech", [], None), ("", "no_speech", [], None)]
    assert old.ask("SELECT judged, text_sha256 FROM classifications") == [("transcript", None)]
    assert old.ask("SELECT finding, reasons FROM ra_queue", "ra_app") == [("speech", [])]
    assert old.ask("SELECT peaks, loudness_lufs, peak_dbfs FROM audio_files", "ra_app") == [(None, None, None)] * 2
    assert old.ask("SELECT max(version) FROM schema_version") == [(8,)]


def test_the_release_before_works_on_the_new_schema(old: Old) -> None:
    old.upgrade()
    old.write("b.mp3", "and again")
    old.write("a.mp3", "we meet")
    assert sorted(row[0] for row in old.ask(QUEUE, "ra_app")) == ["a.mp3", "b.mp3"]
    assert len(old.ask("SELECT * FROM verdicts_in_force", "pipeline")) == 2


def test_what_the_release_before_leaves_untold_is_corrected_at_the_next_deploy(old: Old) -> None:
    old.upgrade()
    old.ask("UPDATE transcripts SET finding = 'no_speech', no_speech = true, text = '' WHERE text <> ''")
    old.write("a.mp3", "heard anew")  # the row still says that nobody speaks
    old.ask("UPDATE transcripts SET not_judged = 'language' WHERE text <> ''")
    old.write("a.mp3", "and judged")  # and that it is not judged
    old.upgrade()
    found = old.ask("SELECT text, finding, not_judged FROM transcripts WHERE text <> ''")
    assert found == [("and judged", "speech", None)]
    assert [row[0] for row in old.ask(QUEUE, "ra_app")] == ["a.mp3"]


def test_what_the_release_before_wrote_and_writes_is_found_by_the_search(old: Old) -> None:
    old.upgrade()
    old.write("b.mp3", "the markets")
    found = "SELECT text FROM transcripts WHERE words_found @@ to_tsquery('english', %(word)s)"
    assert old.ask(found, "ra_app", word="meeting") == [("we meet",)]
    assert old.ask(found, "pipeline", word="market") == [("the markets",)]


def test_a_clip_that_stays_not_judged_stays_so_at_every_deploy(old: Old) -> None:
    old.upgrade()
    old.ask("UPDATE transcripts SET not_judged = 'language', created_at = now() + interval '1 s' WHERE text <> ''")
    old.upgrade()
    assert old.ask("SELECT count(*) FROM transcripts WHERE not_judged IS NOT NULL") == [(1,)]
    assert old.ask(QUEUE, "ra_app") == []
