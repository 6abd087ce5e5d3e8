"""Exports of a million judgements: time and memory of each format, and the same bytes when a snapshot is built again.

    PYTHONPATH=src:.:ra_app python -m bench.ra.export [--rows 20000]

The worker runs as it is deployed, as a process of its own, with a PostgreSQL of its own. The time is that of the whole
process: its start, the canonical file, one format, hashes, and the rename.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import create_app
from app.config import load_settings
from app.export.formats import FORMATS
from app.models import db
from bench.ra.figures import Figure, at_most, demand
from bench.ra.site import Site, made
from local.services import Services
from tests.databases import fresh_database
from tests.ra_app.serving import RA_APP, command_env, run
from tests.ra_app.world import World

ROWS = 1_000_000
LIMIT_S, LIMIT_MB = 60, 500
# Of ten judgements there are four clips with two coders each, and two changed judgements.
FILL = """
    SET session_replication_role = replica;
    INSERT INTO batches (batch_id) VALUES ('20261120-103000-a1b2c3');
    INSERT INTO audio_files (batch_id, original_filename, status, duration_s, source_sha256)
    SELECT '20261120-103000-a1b2c3', 'clip-' || n || '.m4a', 'done', 30.016, encode(sha256(n::text::bytea), 'hex')
    FROM generate_series(1, %(clips)s) n;
    INSERT INTO transcripts (audio_id, model, text, language, speech_s, no_speech)
    SELECT audio_id, 'large-v3', 'We walked all the way around.', 'en', 28, false FROM audio_files;
    INSERT INTO classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model, prompt_version,
                                 violates, score, threshold, mass, truncated)
    SELECT audio_id, transcript_id, policy, '1.2.0', 'abc', 'cope-a-9b', '1', audio_id %% 7 = 0,
           0.1 + (audio_id %% 900) / 1013.0, 0.4321, 1, false
    FROM transcripts, unnest(ARRAY['harassment', 'hate-speech', 'violent-threats']) policy;
    INSERT INTO ra_users (username, pseudonym, password_hash)
    SELECT 'coder-' || n, 'RA-' || n, '!' FROM generate_series(1, 9) n;
    INSERT INTO ra_pseudonyms (pseudonym, user_id) SELECT pseudonym, user_id FROM ra_users;
    INSERT INTO ra_studies (name, mode, coders_per_item) VALUES ('Measured', 'blind', 2);
    INSERT INTO ra_items (study_id, audio_id, stratum, inclusion_probability, position)
    SELECT (SELECT max(study_id) FROM ra_studies), audio_id, 'rest', 0.0625, audio_id FROM audio_files;
    INSERT INTO ra_assignments (audio_id, item_id, coder_number, study_id, position, user_id, state, opened_at,
                                submitted_at)
    SELECT audio_id, item_id, coder, study_id, position, 1 + (item_id + coder * 4) %% 9, 'submitted', now(), now()
    FROM ra_items, generate_series(1, 2) coder;
    INSERT INTO ra_labels (assignment_id, submission_key, codebook_id, codebook_version, labels, confidence, note,
                           blind, mode, transcript_id, active_ms, heard_ms, heard, spans)
    SELECT assignment_id, gen_random_uuid(), 'spoken-clips', '3',
           CASE item_id %% 3 WHEN 0 THEN '["hate", "harassment"]'::jsonb ELSE '["no_violation"]' END, 1 + item_id %% 3,
           CASE item_id %% 5 WHEN 0 THEN 'He says it twice, „dort“, at 0:06.' ELSE '' END, true, 'blind', audio_id,
           9000 + item_id %% 7000, 21016, '[[0, 12.5], [14, 22.516]]', '[[3.25, 6.5]]'
    FROM ra_assignments;
    INSERT INTO ra_labels (assignment_id, submission_key, codebook_id, codebook_version, labels, blind, mode,
                           transcript_id, revision_of, active_ms, heard_ms)
    SELECT l.assignment_id, gen_random_uuid(), 'spoken-clips', '3', '["hate"]', true, 'blind', l.transcript_id,
           l.label_id, 12000, 21016
    FROM ra_labels l WHERE l.label_id %% 4 = 0;
    SET session_replication_role = origin;
    ANALYZE
"""


@dataclass(frozen=True)
class Built:
    seconds: float
    peak_mb: float
    files: list[dict[str, Any]]  # as ra_exports has them


def measure(_: Site) -> list[Figure]:
    return measured(ROWS)


def measured(rows: int) -> list[Figure]:
    what = f"export of {rows:,} rows"
    found = []
    with filled(rows) as (world, environ):
        for name in [key for key in FORMATS if key != "jsonl"]:
            built = order(world, environ, name)
            size = sum(file["bytes"] for file in built.files) / 1e6
            note = f"{built.peak_mb:.0f} MB resident; files of {size:,.0f} MB"
            found.append(at_most(f"{what}, JSON lines and {name}", LIMIT_S, built.seconds, "s", digits=1, note=note))
            found.append(at_most(f"{what}, {name}: memory", LIMIT_MB, built.peak_mb, "MB"))
        again = order(world, environ, "csv", again="csv")
        same = again.files == world.sql("SELECT files FROM ra_exports WHERE name = 'csv'")[0][0]
        says = world.sql("SELECT bounds->'again' FROM ra_exports WHERE name = 'csv'")[0][0]
        demand(again.files != [], "the second build has files")
        equal = bool(same and says["bytes"])
        told = f"the same ({rows:,} rows, CSV and JSON lines)" if equal else f"not the same: {says}"
        found.append(Figure("the same snapshot again, byte for byte", "the same", told, equal))
    return found


def order(world: World, environ: dict[str, str], name: str, *, again: str | None = None) -> Built:
    """Order an export of one format, or let it be built again, and run the worker to its end."""
    if again is None:
        world.sql(
            "INSERT INTO ra_exports (name, study_ids, formats) VALUES (%s, "
            "ARRAY[(SELECT max(study_id) FROM ra_studies)], ARRAY['jsonl', %s])", name, name,
        )  # fmt: skip
    else:
        world.sql("UPDATE ra_exports SET state = 'waiting' WHERE name = %s", again)
    began = time.monotonic()
    worker = subprocess.Popen(
        [sys.executable, "-m", "flask", "exports", "work", "--once"], cwd=RA_APP, env=command_env(environ)
    )
    _, status, used = os.wait4(worker.pid, 0)
    worker.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    state, error, files = world.sql("SELECT state, error, files FROM ra_exports WHERE name = %s", name)[0]
    demand(worker.returncode == 0 and state == "done", f"the export {name} is {state}: {error}")
    print(f"  {name}: {seconds:.1f} s, {used.ru_maxrss / 1024:.0f} MB", flush=True)
    return Built(seconds, used.ru_maxrss / 1024, files)


@contextmanager
def filled(rows: int) -> Iterator[tuple[World, dict[str, str]]]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with Services(made(folder / "services"), durable=False) as services:
            services.make_bucket("exports")
            database = fresh_database(services, "exports")
            environ = {
                **services.ra_app_environ(database=database.name, bucket="exports"),
                "FLASK_ENV": "development",
                "FLASK_APP": "app",
                "RA_EXPORTS": str(folder / "exports"),
            }
            upgraded = run("flask db upgrade", environ)
            demand(upgraded.returncode == 0, upgraded.stderr)
            app = create_app(load_settings(environ))
            world = World(app, database.admin_dsn, services, "exports")
            try:
                world.sql(FILL, clips=rows * 4 // 10)
                yield world, environ
            finally:
                world.close()
                with app.app_context():
                    db.engine.dispose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=ROWS)
    for figure in measured(parser.parse_args().rows):
        print(f"{figure.measure}: {figure.figure} (target {figure.target}, met: {figure.met})", flush=True)
