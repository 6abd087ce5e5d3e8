"""The role ra_app against administrators' sessions: schema.sql, backups, their check, and restores."""

from __future__ import annotations

import re

import psycopg2
import psycopg2.errors
import pytest

from tests.security.attacks import ATTACKS, attack
from tests.security.conftest import PROGRAMS, VERSION_3, Site

FLAGGED = """
INSERT INTO public.batches (batch_id) VALUES ('b1');
INSERT INTO public.audio_files (audio_id, batch_id, original_filename, status, s3_opus_path)
    VALUES (1, 'b1', 'a.mp3', 'done', 'processed/2026-01-01/1.opus');
INSERT INTO public.transcripts (audio_id, model, text, speech_s, no_speech) VALUES (1, 'base', 'hello', 1, false);
INSERT INTO public.classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model,
        prompt_version, violates, score, threshold, mass, truncated)
    SELECT 1, transcript_id, 'p', '1', 'ab', 'm', 'p1', true, 0.9, 0.5, 1, false FROM public.transcripts;
"""
SCHEMA_OF = "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = '{}'"


def counts(site: Site) -> str:
    return (site.folder / "counts.txt").read_text()


# A new layout has everything of ra_app's in its own schema; an old one has it in public until schema.sql is applied.


@pytest.mark.parametrize("name", ATTACKS)
def test_schema_sql_calls_nothing_of_an_attacker(old_site: Site, name: str) -> None:
    old_site.ask("ra_app", attack(name, "public", old_site.marker))
    old_site.apply()
    old_site.demand_unharmed()
    assert old_site.ask("postgres", SCHEMA_OF.format("ra_trap")) == [("ra_app",)]


@pytest.mark.parametrize("name", ATTACKS)
def test_a_backup_and_its_restore_call_nothing_of_an_attacker(new_site: Site, name: str) -> None:
    new_site.ask("postgres", FLAGGED)
    new_site.ask("ra_app", attack(name, "ra_app", new_site.marker))
    new_site.load(new_site.dump())
    new_site.demand_unharmed()
    assert "ra_trap|1\n" in counts(new_site)
    assert new_site.ask("ra_app", "SELECT count(*) FROM ra_app.ra_trap", new_site.restored) == [(1,)]
    assert new_site.ask("pipeline", "SELECT count(*) FROM batches", new_site.restored) == [(1,)]


@pytest.mark.parametrize(
    "name", ["check", *(pytest.param(name, marks=pytest.mark.thorough) for name in list(ATTACKS)[1:])]
)
def test_a_dump_from_before_is_restored_without_calling_an_attacker(old_site: Site, name: str) -> None:
    old_site.ask("postgres", FLAGGED)
    old_site.ask("ra_app", attack(name, "public", old_site.marker))
    old_site.load(old_site.dump())
    old_site.apply(database=old_site.restored)
    old_site.demand_unharmed()
    assert old_site.ask("postgres", SCHEMA_OF.format("ra_trap"), old_site.restored) == [("ra_app",)]
    assert old_site.ask("postgres", "SELECT count(*) FROM ra_app.ra_trap", old_site.restored) == [(1,)]


@pytest.mark.parametrize("layout", [pytest.param("old", marks=pytest.mark.thorough), "new"])
def test_the_restore_check_finds_every_row_and_makes_no_attacker_superuser(site: Site, layout: str) -> None:
    site.apply(VERSION_3 if layout == "old" else None)
    site.ask("postgres", FLAGGED)
    schema = "public" if layout == "old" else "ra_app"
    for number, name in enumerate(ATTACKS):
        script = re.sub(
            r"\b(evil_now|evil|ra_trap|ra_seen|trapped)\b", rf"\g<1>_{number}", attack(name, schema, site.marker)
        )
        site.ask("ra_app", script)
    found = site.check(site.dump())
    assert found == counts(site)
    assert "batches|1\n" in found
    site.demand_unharmed()


def test_the_attacks_work_where_an_administrator_restores_everything(new_site: Site) -> None:
    """Without the protection, the attacks succeed, so the other tests can fail."""
    new_site.ask("ra_app", attack("check", "ra_app", new_site.marker))
    dump = new_site.dump()
    new_site.ask("postgres", f"CREATE DATABASE {new_site.restored}", "postgres")
    done = new_site.program("pg_restore", "--exit-on-error", f"--dbname={new_site.restored}", dump)
    assert done.returncode == 0, done.stderr
    assert new_site.marker.exists()
    assert new_site.ask("postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = 'ra_app'") == [(True,)]


def test_a_view_made_with_an_attackers_function_is_made_anew(old_site: Site) -> None:
    old_site.ask("postgres", FLAGGED)
    old_site.ask("ra_app", attack("aggregate", "public", old_site.marker))
    old_site.apply(VERSION_3)  # as every deploy did: now ra_queue calls public.array_agg
    assert "public.array_agg" in str(
        old_site.ask("postgres", "SET search_path = ''; SELECT pg_get_viewdef('public.ra_queue'::regclass)")
    )
    old_site.apply()
    assert old_site.ask("postgres", "SELECT policies FROM public.ra_queue") == [(["p"],)]
    old_site.demand_unharmed()


def test_a_name_of_the_pipeline_that_ra_app_has_taken_is_freed(site: Site) -> None:
    site.apply(VERSION_3)
    site.ask("postgres", "DROP TABLE public.operator_actions")
    site.ask("ra_app", attack("check", "public", site.marker) + "CREATE VIEW public.operator_actions AS SELECT evil(1)")
    site.apply()
    owner = "SELECT tableowner FROM pg_tables WHERE schemaname = 'public' AND tablename = 'operator_actions'"
    assert site.ask("postgres", owner) == [("postgres",)]
    site.demand_unharmed()


def test_the_tables_of_the_app_move_with_their_rows_and_sequences(old_site: Site) -> None:
    made = "CREATE TABLE ra_things (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, other serial, note text)"
    old_site.ask("ra_app", made + "; INSERT INTO ra_things (note) VALUES ('a'); CREATE SEQUENCE ra_loose")
    old_site.apply()
    old_site.apply()
    assert old_site.ask("ra_app", "INSERT INTO ra_things (note) VALUES ('b') RETURNING id, other") == [(2, 2)]
    left = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner = 'ra_app'::regrole"
    assert old_site.ask("postgres", left) == []


def test_what_cannot_move_is_named_with_what_to_do(old_site: Site) -> None:
    old_site.ask("postgres", "CREATE SCHEMA ra_app AUTHORIZATION ra_app")
    old_site.ask("ra_app", "CREATE TABLE ra_app.ra_same (i int); CREATE TABLE public.ra_same (i int)")
    with pytest.raises(Exception, match=r"the table public\.ra_same belongs to ra_app and cannot move") as caught:
        old_site.apply()
    assert "Drop it, then apply schema.sql again" in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.mine (i int)",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE VIEW public.mine AS SELECT 1",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine (i int)",
        "ALTER SCHEMA ra_app RENAME TO mine",
    ],
)
@pytest.mark.parametrize("role", ["ra_app", "pipeline"])
def test_only_an_administrator_makes_things_outside_ra_app(old_site: Site, role: str, statement: str) -> None:
    old_site.apply()
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        old_site.ask(role, statement)


def test_the_pipeline_meets_nothing_that_ra_app_has_made(new_site: Site) -> None:
    new_site.ask(
        "ra_app",
        "CREATE TABLE batches (i int); GRANT USAGE ON SCHEMA ra_app TO pipeline; GRANT SELECT ON batches TO pipeline",
    )
    assert new_site.ask("pipeline", "SELECT current_schemas(true)") == [(["pg_catalog", "public"],)]
    assert new_site.ask("pipeline", "SELECT batch_id FROM batches") == []


def test_a_dump_without_every_row_is_told_by_its_counts(new_site: Site) -> None:
    new_site.ask("postgres", FLAGGED)
    dump = new_site.dump()
    new_site.ask("postgres", "DELETE FROM public.classifications")
    assert new_site.check(dump) == counts(new_site)
    new_site.dump()
    assert "classifications|0\n" in counts(new_site)


def test_what_belongs_to_nobody_known_is_left_out_and_named(new_site: Site) -> None:
    new_site.ask("ra_app", attack("cast", "ra_app", new_site.marker))
    dump = new_site.dump()
    done = new_site.program("pg_restore", "--list", dump)
    assert " CAST - " in done.stdout
    found = new_site.program(PROGRAMS / "load-dump", dump, new_site.restored)
    assert found.returncode == 0, found.stderr
    assert re.search(r"left out, .*: \d+; \d+ \d+ CAST - ", found.stderr)
