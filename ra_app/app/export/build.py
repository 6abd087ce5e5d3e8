"""Makes the folder of one export: the canonical file, the formats made of it, the dictionary, and the checksums."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from app.export import canonical, dictionary, label_studio, tables, web_annotation
from app.export.canonical import Snapshot, Written
from app.export.columns import Choices
from app.export.formats import FORMATS

CHUNK = 1024 * 1024
SUMS = "SHA256SUMS"


@dataclass(frozen=True, kw_only=True)
class Built:
    written: Written
    files: list[dict[str, Any]]  # name, bytes and sha256 of each


def build(
    connection: Connection,
    snapshot: Snapshot,
    folder: Path,
    *,
    name: str,
    formats: Sequence[str],
    choices: Choices,
    tell: Callable[[int], None],
) -> Built:
    """Write all files into an empty folder. `tell` gets the rows done, once for each file that is made of rows.

    Raises
    ------
    OSError
        The disk is full, or the folder cannot be written.
    """
    source = folder / canonical.FILE
    written = canonical.write(connection, snapshot, source, tell)
    done = written.rows
    for format_ in formats:
        if format_ in _WRITERS:
            _WRITERS[format_](source, folder / FORMATS[format_][0], snapshot, _after(done, tell))
            done += written.rows
    about = {"name": name, "at": snapshot.bounds["at"], "rows": written.rows, "studies": _names(connection, snapshot)}
    texts = {
        **dictionary.files(snapshot.columns, choices, about, formats),
        "codebooks.json": _codebooks(connection, snapshot),
    }
    for file, text in texts.items():
        (folder / file).write_bytes(text.encode())
    return Built(written=written, files=_sealed(folder))


def steps(formats: Sequence[str]) -> int:
    """Return how many files are made of rows."""
    return 1 + sum(name in _WRITERS for name in formats)


def _after(done: int, tell: Callable[[int], None]) -> Callable[[int], None]:
    return lambda rows: tell(done + rows)


_Writer = Callable[[Path, Path, Snapshot, Callable[[int], None]], None]
_WRITERS: dict[str, _Writer] = {
    "csv": lambda source, target, snapshot, tell: tables.write_csv(source, target, snapshot.columns, tell),
    "parquet": lambda source, target, snapshot, tell: tables.write_parquet(source, target, snapshot.columns, tell),
    "web-annotation": lambda source, target, _, tell: web_annotation.write(source, target, tell),
    "label-studio": lambda source, target, _, tell: label_studio.write(source, target, tell),
}


def _names(connection: Connection, snapshot: Snapshot) -> list[str]:
    query = sa.text("SELECT name FROM ra_studies WHERE study_id = ANY(:studies) ORDER BY study_id")
    return list(connection.execute(query, {"studies": list(snapshot.studies)}).scalars())


def _codebooks(connection: Connection, snapshot: Snapshot) -> str:
    """Return every version of a codebook that a row names. A version from before they were kept has no content."""
    query = sa.text(
        "SELECT used.codebook_id, used.codebook_version, b.sha256, b.content FROM ("
        "SELECT DISTINCT l.codebook_id, l.codebook_version "
        "FROM ra_labels l JOIN ra_assignments a USING (assignment_id) "
        "WHERE a.study_id = ANY(:studies) AND l.label_id <= :labels) used "
        "LEFT JOIN ra_codebooks b ON b.codebook_id = used.codebook_id AND b.version = used.codebook_version "
        "ORDER BY 1, 2"
    ).columns(sa.column("codebook_id"), sa.column("codebook_version"), sa.column("sha256"), sa.column("content"))
    found = connection.execute(query, {"studies": list(snapshot.studies), "labels": snapshot.bounds["labels"]})
    names = ("codebook", "version", "sha256", "content")
    return json.dumps([dict(zip(names, row, strict=True)) for row in found], ensure_ascii=False, indent=1) + "\n"


def _sealed(folder: Path) -> list[dict[str, Any]]:
    """Write the checksums, see that all is on the disk, and return what the files are."""
    found = [described(path) for path in sorted(folder.iterdir())]
    sums = "".join(f"{file['sha256']}  {file['name']}\n" for file in found)
    (folder / SUMS).write_bytes(sums.encode())
    found.append(described(folder / SUMS))
    return found


def described(path: Path) -> dict[str, Any]:
    """Return name, size and hash of a file, after it is on the disk."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        os.fsync(file.fileno())
        return {"name": path.name, "bytes": file.tell(), "sha256": digest.hexdigest()}


def same(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    return [dict(file) for file in one] == [dict(file) for file in other]
