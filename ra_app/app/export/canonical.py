"""Writes the rows of a snapshot as one gzip of JSON lines, in constant memory. All other files are made of this one.

Rows are in the order of study, clip, coder and time. Postgres makes the JSON, a few thousand clips at a time.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from app.export.columns import VERDICT, Column

CLIPS = 2_000  # of one query; with three coders each, about 10 MB
LEVEL = 1  # of gzip: higher levels take longer than all the rest
FILE = "judgements.jsonl.gz"
# In the column's order: how the column is called in verdicts_in_force.
_SOURCES = ("violates", "score", "threshold", "policy_version", "prompt_version", "model")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    studies: tuple[int, ...]
    bounds: Mapping[str, Any]  # of bounds.fix
    policies: tuple[str, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, kw_only=True)
class Written:
    rows: int
    sha256: str  # of the lines, not of their gzip: another gzip may write other bytes


def prepare(connection: Connection) -> None:
    """Set what the queries of a snapshot need, until the transaction ends."""
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    connection.execute(sa.text("SET LOCAL TimeZone = 'UTC'"))


@contextmanager
def by_index(connection: Connection) -> Iterator[None]:
    """Find batches by indexes. Where statistics are old, the planner may prefer to read whole tables for each."""
    connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
    yield
    connection.execute(sa.text("SET LOCAL enable_seqscan = on"))


def write(connection: Connection, snapshot: Snapshot, path: Path, tell: Callable[[int], None]) -> Written:
    """Write the file. `tell` is called with the number of rows so far, and may raise to end the work."""
    digest, rows = hashlib.sha256(), 0
    with (
        by_index(connection),
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", LEVEL, cast("IO[bytes]", raw), mtime=0) as packed,
    ):
        for lines in batches(connection, snapshot):
            block = "".join(f"{line}\n" for line in lines).encode()
            packed.write(block)
            digest.update(block)
            rows += len(lines)
            tell(rows)
    return Written(rows=rows, sha256=digest.hexdigest())


def batches(connection: Connection, snapshot: Snapshot) -> Iterator[Sequence[str]]:
    """Return the rows as JSON, some clips at a time. Postgres makes the next batch while this one is written."""
    query = sa.text(_query(snapshot))
    fixed = {"labels": snapshot.bounds["labels"], "decisions": snapshot.bounds["decisions"],
             "references": snapshot.bounds["references"],
             **{f"policy_{number}": policy for number, policy in enumerate(snapshot.policies)}}  # fmt: skip
    clips = _clips(connection, snapshot.studies)

    def ask() -> Sequence[str] | None:
        given = next(clips, None)
        return connection.execute(query, {**fixed, **given}).scalars().all() if given is not None else None

    with ThreadPoolExecutor(1) as ahead:  # one thread: the connection is never used twice at a time
        coming = ahead.submit(ask)
        while (found := coming.result()) is not None:
            coming = ahead.submit(ask)
            yield found


def _clips(connection: Connection, studies: Sequence[int]) -> Iterator[dict[str, list[int]]]:
    """Return the items and clips of each batch, in the order of the rows."""
    some = sa.text(
        "SELECT item_id, audio_id FROM ra_items WHERE study_id = :study AND audio_id > :after "
        "ORDER BY audio_id LIMIT :clips"
    )
    for study in sorted(studies):
        after = -1
        while items := connection.execute(some, {"study": study, "after": after, "clips": CLIPS}).all():
            after = items[-1].audio_id
            yield {"items": [item.item_id for item in items], "clips": [item.audio_id for item in items]}


def _query(snapshot: Snapshot) -> str:
    """Return the query of one batch: what holds for a clip, and then the rows.

    The clips are given as values in each part: through a join they would not reach into the view of verdicts.
    """
    columns = ", ".join(f"{column.sql} AS {_quoted(column.name)}" for column in snapshot.columns)
    # Only names of this package are put in; policies are parameters, and names of columns are quoted.
    return f"""
        WITH v AS MATERIALIZED (
            SELECT audio_id{_verdicts(len(snapshot.policies))}
            FROM verdicts_in_force v WHERE audio_id = ANY(:clips) GROUP BY audio_id
        ), d AS MATERIALIZED (
            SELECT DISTINCT ON (item_id) item_id, decision_id, labels, answers, reason, label_ids
            FROM ra_decisions WHERE item_id = ANY(:items) AND decision_id <= :decisions
            ORDER BY item_id, decision_id DESC
        ), g AS MATERIALIZED (
            SELECT DISTINCT ON (audio_id, codebook_id) audio_id, codebook_id, reference_id, labels, answers
            FROM ra_references WHERE audio_id = ANY(:clips) AND reference_id <= :references
            ORDER BY audio_id, codebook_id, reference_id DESC
        )
        SELECT row_to_json(r)::text FROM (
            SELECT {columns}
            FROM ra_items i
            JOIN ra_studies s ON s.study_id = i.study_id
            JOIN ra_assignments a ON a.item_id = i.item_id
            JOIN ra_labels l ON l.assignment_id = a.assignment_id AND l.label_id <= :labels
            LEFT JOIN ra_pseudonyms p ON p.user_id = a.user_id
            LEFT JOIN audio_files f ON f.audio_id = i.audio_id
            LEFT JOIN transcripts t ON t.transcript_id = l.transcript_id
            LEFT JOIN v ON v.audio_id = i.audio_id
            LEFT JOIN d ON d.item_id = i.item_id
            LEFT JOIN g ON g.audio_id = i.audio_id AND g.codebook_id = l.codebook_id AND g.labels IS NOT NULL
            WHERE i.item_id = ANY(:items)
            ORDER BY i.audio_id, a.coder_number, l.label_id
        ) r"""  # noqa: S608


def _verdicts(policies: int) -> str:
    """Return the part of the query that puts the verdicts of a clip beside each other."""
    aggregates = ("bool_or", "max", "max", "max", "max", "max")
    return "".join(
        f", {aggregate}(v.{source}) FILTER (WHERE v.policy = :policy_{number}) AS {name}_{number}"
        for number in range(policies)
        for aggregate, source, (name, *_) in zip(aggregates, _SOURCES, VERDICT, strict=True)
    )


def _quoted(name: str) -> str:
    """Return the name as SQL, and so that SQLAlchemy does not take a part of it for a parameter."""
    return '"' + name.replace('"', '""').replace(":", "\\:") + '"'
