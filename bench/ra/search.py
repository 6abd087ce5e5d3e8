"""The search over transcripts: how long a page of results takes, and what the search costs at a deploy.

    PYTHONPATH=src:.:ra_app python -m bench.ra.search [--clips 1000000] [--deploy]

The transcripts are made in the database: six languages and scripts, half a minute of speech each, words as frequent as
in a language (the frequency falls with the rank), one clip in fifty flagged. The questions are those of leads: a rare
word, a common one, several, a phrase, Chinese characters, and words together with filters. Each is asked of
`app/search/search.py` as the page asks it, a page and the page after it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
from flask import Flask

from app import create_app
from app.config import load_settings
from app.models import db
from app.search import filters as search_filters
from app.search import search
from bench.ra.figures import Figure, at_most
from bench.report import ROOT
from local.services import Services
from tests.databases import fresh_database
from tests.ra_app.serving import run

CLIPS = 1_000_000
ROUNDS = 12  # times that each kind of question is asked, each time with other words
WORDS = 50  # of a clip
VOCABULARY = 20_000
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
# Letters by language: the first of the alphabet, how many, what stands between words.
SCRIPTS = {"en": (97, 26, " "), "de": (97, 26, " "), "es": (97, 26, " "), "ru": (1072, 32, " "), "ar": (1577, 18, " "),
           "zh": (19968, 3000, "")}  # fmt: skip

_WORD = """
    CASE WHEN size > 1000 THEN chr(first + (rank %% size))
    ELSE chr(first + rank %% size) || chr(first + (rank / size) %% size) || chr(first + (rank / 7) %% size)
        || chr(first + (rank / 3) %% size) END
"""
_FILL = f"""
    INSERT INTO batches (batch_id) SELECT 'batch-' || n FROM generate_series(0, %(clips)s / 1000) n;
    INSERT INTO audio_files (audio_id, batch_id, original_filename, status, duration_s, processed_at, s3_opus_path,
                             platform_metadata)
    SELECT n, 'batch-' || n / 1000, 'clips/' || md5(n::text) || '.m4a', 'done', 30,
           %(began)s::timestamptz + n * interval '20 s', 'processed/2026-11-20/' || n || '.opus',
           jsonb_build_object('author', 'author-' || n %% 5000, 'likes', n %% 997, 'region', 'region-' || n %% 40)
    FROM generate_series(1, %(clips)s) n;
    INSERT INTO transcripts (audio_id, model, text, language, speech_s, no_speech, finding, reasons)
    SELECT n, 'large-v3', said, code, 28, false, CASE WHEN n %% 10 = 0 THEN 'doubtful' ELSE 'speech' END, '{{}}'
    FROM generate_series(1, %(clips)s) n
    JOIN LATERAL (SELECT code, first, size, gap FROM unnest(%(codes)s, %(firsts)s, %(sizes)s, %(gaps)s)
        WITH ORDINALITY s (code, first, size, gap, place) WHERE place = 1 + n %% 10 %% {len(SCRIPTS)}) script ON true
    CROSS JOIN LATERAL (SELECT string_agg({_WORD}, gap) AS said FROM (
        SELECT floor(power({VOCABULARY}, random()))::int AS rank
        FROM generate_series(1, {WORDS} + 0 * n)) drawn) spoken;
    INSERT INTO classifications (audio_id, transcript_id, policy, policy_version, policy_sha256, model, prompt_version,
                                 violates, score, threshold, mass, truncated)
    SELECT audio_id, transcript_id, p, '1.0.0', 'abc', 'm', '1', audio_id %% 100 < 2 AND p = 'hate-speech',
           0.5, 0.4, 1, false
    FROM transcripts, unnest(ARRAY['hate-speech', 'scams']) p;
"""  # noqa: S608 - numbers of this module
_REMOVE = """
    ALTER TABLE transcripts DROP COLUMN words_found;
    DROP INDEX transcripts_language_idx, audio_files_platform_idx, audio_files_name_idx, audio_files_days_idx,
        classifications_flagged_idx
"""


def fill(dsn: str, clips: int) -> None:
    codes, values = list(SCRIPTS), list(SCRIPTS.values())
    connection = psycopg2.connect(dsn, options="-c search_path=public,ra_app")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(
            _FILL,
            {
                "clips": clips, "began": BEGAN, "codes": codes, "firsts": [value[0] for value in values],
                "sizes": [value[1] for value in values], "gaps": [value[2] for value in values],
            },
        )  # fmt: skip
        cursor.execute("VACUUM ANALYZE")
    connection.close()


def word(language: str, rank: int) -> str:
    first, size, _ = SCRIPTS[language]
    if size > 1000:
        return chr(first + rank % size)
    return "".join(chr(first + part % size) for part in (rank, rank // size, rank // 7, rank // 3))


def questions(clips: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield kinds of questions with the fields of the search's form."""
    chance = random.Random(20261129)  # noqa: S311 - the same questions in every run
    for _ in range(ROUNDS):
        language = chance.choice(list(SCRIPTS)[:5])
        common, rare = (word(language, chance.randint(*ranks)) for ranks in ((1, 60), (3000, VOCABULARY)))
        some = word(language, chance.randint(200, 1500))
        chinese = "".join(word("zh", chance.randint(1, 300)) for _ in range(2))
        day = (BEGAN + timedelta(seconds=20 * chance.randint(1, clips))).date()
        week = {"since": day.isoformat(), "until": (day + timedelta(days=7)).isoformat()}
        yield "rare word", {"words": rare}
        yield "word in some clips", {"words": some}
        yield "common word", {"words": common}
        yield "two words, one left out", {"words": f"{common} {some} -{rare}"}
        pair = " ".join(word(language, chance.randint(20, 400)) for _ in range(2))
        yield "phrase", {"words": f'"{pair}"'}
        yield "Chinese characters", {"words": chinese}
        yield "word, flagged", {"words": some, "verdict": "flagged", "policy": "hate-speech"}
        yield "common word, language, one week", {"words": common, "language": language, **week}
        yield "flagged, one week", {"verdict": "flagged", **week}
        yield "author", {"field": "author", "value": f"author-{chance.randint(0, 4999)}"}
        yield "word, region, doubtful", {"words": some, "field": "region", "value": "region-7", "finding": "doubtful"}
        yield "batch and file name", {"batch": f"batch-{chance.randint(0, clips // 1000)}", "clip": "ab"}
        yield "no filter", {}


def timed(app: Flask, clips: int) -> dict[str, list[float]]:
    """Return the milliseconds of each question and of the page after its first, by kind."""
    taken: dict[str, list[float]] = defaultdict(list)
    with app.app_context():
        for kind, fields in [*questions(clips)]:
            filters, before = search_filters.read(fields), None
            for _ in range(2):
                began = time.perf_counter()
                hits, more = search.page(filters, 1, before)
                taken[kind].append((time.perf_counter() - began) * 1000)
                if not more:
                    break
                before = hits[-1].audio_id
        db.session.remove()
    return taken


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def measure(_: object, clips: int = CLIPS) -> list[Figure]:
    """Measure in a process of its own, with services of its own, since the database is large."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.ra.search", "--clips", str(clips)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    value, worst, count = done.stdout.splitlines()[-1].split()
    what = f"search over {clips:,} transcripts, mixed questions, p95"
    return [at_most(what, 200, float(value), "ms", note=f"{count} pages, slowest {float(worst):.0f} ms")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--deploy", action="store_true", help="also measure what bringing the schema up to date takes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Services(Path(folder), durable=False) as services:
        services.make_bucket("search")
        database = fresh_database(services, "search")
        environ = {
            **services.ra_app_environ(database=database.name, bucket="search"),
            "FLASK_ENV": "development",
            "FLASK_APP": "app",
        }
        upgraded = run("flask db upgrade", environ)
        if upgraded.returncode:
            raise SystemExit(upgraded.stderr)
        began = time.monotonic()
        fill(database.admin_dsn, given.clips)
        print(f"filled in {time.monotonic() - began:.0f} s", flush=True)
        if given.deploy:
            deploy(services, database.name, database.admin_dsn)
        app = create_app(load_settings(environ))
        timed(app, given.clips)  # into memory
        taken = timed(app, given.clips)
        for kind, values in sorted(taken.items()):
            print(f"{kind:34} p95 {p95(values):7.1f} ms, slowest {max(values):7.1f} ms", flush=True)
        every = [value for values in taken.values() for value in values]
        with app.app_context():
            db.engine.dispose()
        print(f"{p95(every):.1f} {max(every):.1f} {len(every)}")


def deploy(services: Services, name: str, dsn: str) -> None:
    """Take the search away as it was before version 8, and time the schema that brings it back."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE)
        cursor.execute("VACUUM FULL transcripts")
        cursor.execute("SELECT pg_total_relation_size('transcripts') + pg_total_relation_size('audio_files')")
        before = cursor.fetchall()[0][0]
        began = time.monotonic()
        services.apply_schema(name)
        took = time.monotonic() - began
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT pg_total_relation_size('transcripts') + pg_total_relation_size('audio_files')")
        after = cursor.fetchall()[0][0]
    connection.close()
    print(f"deploy: {took:.0f} s; the tables grow from {before / 1e6:,.0f} MB to {after / 1e6:,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
