"""Measures how long “Next clip” takes when many people claim from a large study, and that nobody gets another's clip.

    PYTHONPATH=src:.:ra_app python -m bench.claims [--slots 1000000] [--people 50] [--claims 20] [--coders 2]
    PYTHONPATH=src:.:ra_app python -m bench.claims --flagged 1000000

A study of `--slots` slots is written to a real PostgreSQL. Each person claims a clip as the app does
(`app/reviewing/claims.py`), hands it in, thinks for `--think` seconds on average, and claims the next one. Only the
claims are timed, including the commit. One clip in ten is not handed in: its lease lapses, and whoever claims next
takes it. The benchmark starts real services.

With `--flagged`, so many flagged clips lie in the pipeline's tables instead, and the claims are those of the default
study, which takes up clips from there by itself.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import sqlalchemy as sa
from flask import Flask

from app import create_app
from app.config import load_settings
from app.models import db
from app.reviewing import claims
from local.services import Services

ROOT = Path(__file__).resolve().parents[1]
FILL = """
    UPDATE ra_studies SET state = 'paused';
    INSERT INTO ra_studies (name, selection, coders_per_item) VALUES ('bench', 'list', %(coders)s);
    INSERT INTO ra_users (username, pseudonym, password_hash)
    SELECT 'ra' || n, 'RA-' || n, 'x' FROM generate_series(1, %(people)s) n;
    INSERT INTO ra_items (study_id, audio_id, position)
    SELECT study_id, n, n FROM ra_studies, generate_series(1, %(slots)s / %(coders)s) n WHERE name = 'bench';
    INSERT INTO ra_assignments (audio_id, item_id, coder_number, study_id, position, user_id, state, opened_at)
    SELECT audio_id, item_id, c, study_id, position, NULL, 'free', NULL FROM ra_items, generate_series(1, %(coders)s) c
"""
FLAG = """
    INSERT INTO batches (batch_id) VALUES ('b');
    INSERT INTO audio_files (audio_id, batch_id, original_filename, status, duration_s, s3_opus_path)
    SELECT n, 'b', 'clip' || n, 'done', 30, 'processed/' || n FROM generate_series(1, %(flagged)s) n;
    INSERT INTO transcripts (audio_id, model, text, speech_s, no_speech)
    SELECT n, 'm', 'So listen.', 28, false FROM generate_series(1, %(flagged)s) n;
    INSERT INTO classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model, prompt_version,
                                 violates, score, threshold, mass, truncated)
    SELECT audio_id, transcript_id, p, '1', 'x', 'm', '1', p = 'a', 0.5, 0.5, 1, false
    FROM transcripts, unnest(ARRAY['a', 'b', 'c', 'd']) p;
    ANALYZE
"""
SUBMIT = (
    "UPDATE ra_assignments SET state = 'submitted', submitted_at = now() WHERE audio_id = :clip AND user_id = :user"
)
LAPSE = "UPDATE ra_assignments SET claimed_until = now() WHERE audio_id = :clip AND user_id = :user AND state = 'open'"


@dataclass(frozen=True)
class Claim:
    user_id: int
    clip: int
    seconds: float
    kept: bool  # handed in, and not left to lapse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--claims", type=int, default=20, help="of each person")
    parser.add_argument("--coders", type=int, default=2, help="people who label a clip")
    parser.add_argument("--think", type=float, default=2.0, help="seconds between two claims of a person, on average")
    parser.add_argument("--flagged", type=int, default=0, help="flagged clips in the pipeline's tables")
    size = parser.parse_args()
    if size.flagged:
        size.slots, size.coders = 0, 1
    with tempfile.TemporaryDirectory() as folder, Services(Path(folder), durable=False) as services:
        database = services.make_database("claims")
        services.make_bucket("claims")
        environ = {**services.ra_app_environ(database=database.name, bucket="claims"), "FLASK_APP": "app"}
        flask = [sys.executable, "-m", "flask", "db", "upgrade"]
        subprocess.run(flask, cwd=ROOT / "ra_app", env={**os.environ, **environ}, check=True, capture_output=True)
        fill(database.admin_dsn, size)
        app = create_app(load_settings(environ))
        made = claim_all(app, size)
        with app.app_context():
            db.engine.dispose()
    report(made, size)


def fill(dsn: str, size: argparse.Namespace) -> None:
    connection = psycopg2.connect(dsn, options="-c search_path=public,ra_app")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(FILL, vars(size))
        if size.flagged:
            cursor.execute("UPDATE ra_studies SET state = 'open'")
            cursor.execute(FLAG, vars(size))
        cursor.execute("ANALYZE ra_items, ra_assignments, ra_users")
    connection.close()


def claim_all(app: Flask, size: argparse.Namespace) -> list[Claim]:
    with app.app_context():
        users = list(db.session.scalars(sa.text("SELECT user_id FROM ra_users ORDER BY 1")))
    with ThreadPoolExecutor(size.people) as pool:
        return [claim for made in pool.map(lambda user: work(app, user, size), users) for claim in made]


def work(app: Flask, user_id: int, size: argparse.Namespace) -> list[Claim]:
    """The claims of one person; each in an app context of its own, as each request has."""
    chance = random.Random(user_id)  # noqa: S311 - pauses, not secrets
    made = []
    for _ in range(size.claims):
        time.sleep(chance.uniform(0, 2 * size.think))
        with app.app_context():
            began = time.perf_counter()
            clip = claims.claim_next(user_id)
            seconds = time.perf_counter() - began
            if clip is None:
                break
            kept = chance.random() >= 0.1
            db.session.execute(sa.text(SUBMIT if kept else LAPSE), {"clip": clip, "user": user_id})
            db.session.commit()
        made.append(Claim(user_id, clip, seconds, kept))
    return made


def report(made: list[Claim], size: argparse.Namespace) -> None:
    took = sorted(1000 * claim.seconds for claim in made)
    by_clip = Counter(claim.clip for claim in made if claim.kept)
    by_person = Counter((claim.clip, claim.user_id) for claim in made if claim.kept)
    duplicates = sum(n - size.coders for n in by_clip.values() if n > size.coders)
    duplicates += sum(n - 1 for n in by_person.values())
    what = f"{size.flagged:,} flagged clips" if size.flagged else f"{size.slots:,} slots"
    sys.stdout.write(
        f"{what}, {size.people} people, {len(made)} claims, {size.coders} coders per clip: median "
        f"{statistics.median(took):.1f} ms, p95 {took[int(0.95 * len(took))]:.1f} ms, slowest {took[-1]:.1f} ms; "
        f"{duplicates} duplicates\n"
    )


if __name__ == "__main__":
    main()
