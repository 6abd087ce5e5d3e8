"""Measures how long it takes to count and to draw a sample from many clips, and to extend it.

    PYTHONPATH=src:.:ra_app python -m bench.samples [--clips 1000000]

So many clips with transcripts of half a minute of speech and verdicts on two policies are written to a real
PostgreSQL, one clip in twenty flagged. The sample has all flagged clips and 3,000 others in three bands, with three
coders each. The benchmark starts real services.
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
from pathlib import Path

import psycopg2
import sqlalchemy as sa

from app import create_app
from app.config import load_settings
from app.models import Study, User, db
from app.studies import making
from app.studies.sampling import Frame
from app.studies.selection_form import Selection
from app.studies.settings_form import Settings
from local.services import Services

ROOT = Path(__file__).resolve().parents[1]
FILL = """
    INSERT INTO batches (batch_id) VALUES ('b');
    INSERT INTO audio_files (audio_id, batch_id, original_filename, status, duration_s, s3_opus_path, processed_at)
    SELECT n, 'b', 'clip' || n, 'done', 30, 'processed/' || n, now() - interval '1 hour'
    FROM generate_series(1, %(clips)s) n;
    INSERT INTO transcripts (audio_id, model, text, language, speech_s, no_speech)
    SELECT n, 'm', repeat('so this is what was said then ', 15), 'en', 28, false FROM generate_series(1, %(clips)s) n;
    INSERT INTO classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model, prompt_version,
                                 violates, score, threshold, mass, truncated)
    SELECT audio_id, transcript_id, p, '1', 'x', 'm', '1', p = 'a' AND audio_id %% 20 = 0,
        CASE WHEN p = 'a' AND audio_id %% 20 = 0 THEN 0.9 ELSE random() / 2 END, 0.5, 1, false
    FROM transcripts, unnest(ARRAY['a', 'b']) p;
    INSERT INTO ra_users (username, pseudonym, password_hash, role) VALUES ('lea', 'RA-1', 'x', 'lead');
    ANALYZE
"""
COLUMNS = {
    "name": "bench", "kind": "study", "mode": "blind", "description": "", "coders_per_item": 3, "double_share": 1.0,
    "everybody": True, "shares_exposure": False, "shows": [], "lease_s": 900,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1_000_000)
    size = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Services(Path(folder), durable=False) as services:
        database = services.make_database("samples")
        services.make_bucket("samples")
        environ = {**services.ra_app_environ(database=database.name, bucket="samples"), "FLASK_APP": "app"}
        flask = [sys.executable, "-m", "flask", "db", "upgrade"]
        subprocess.run(flask, cwd=ROOT / "ra_app", env={**os.environ, **environ}, check=True, capture_output=True)
        with timed(f"fill {size.clips:,} clips"):
            fill(database.admin_dsn, size.clips)
        app = create_app(load_settings(environ))
        with app.app_context():
            draw()
            db.engine.dispose()


def fill(dsn: str, clips: int) -> None:
    connection = psycopg2.connect(dsn, options="-c search_path=public,ra_app")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"clips": clips})
    connection.close()


def draw() -> None:
    settings = Settings(columns=COLUMNS, wellness={}, members=())
    chosen = Selection(which="sample", seed=7, frame=Frame(shares=(0.8, 0.95)), rest=(3000,))
    with timed("count"):
        making.count(settings, chosen)
        db.session.rollback()
    lead = db.session.scalars(sa.select(User)).one()
    with timed("make"):
        study, problems = making.make(settings, chosen, lead)
        db.session.commit()
    if study is None:
        raise SystemExit(str(problems))
    number = study.study_id
    with timed("extend by 1,000"):
        making.extend_sample(db.session.get_one(Study, number), {0: 1000}, lead)
        db.session.commit()


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    sys.stdout.write(f"{what}: {time.perf_counter() - began:.1f} s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
