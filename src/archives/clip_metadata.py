"""Metadata of clips: what the platform says about them, read from the metadata files of an archive.

The columns are the platform's business and change without notice, so any will do; which row describes which clip is
decided in `metadata_matching.py`. Metadata never cost the clips: whatever is wrong here is a sentence for the operator.

The files are untrusted, their formats are intricate, and parquet's reader is native code that a few hostile bytes can
make ask for all memory. So a child process reads each (`metadata_reader.py`), without our environment and with bounds
on memory and time, and hands back JSON. That costs half a second for each file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from archives.extract import METADATA_NAMES, Member
from archives.metadata_matching import Table, has_key_column, key_columns, match_clips

MAX_FILES = 100  # in one archive; each costs a process
MAX_TOTAL_CHARS = 256 << 20  # of all values of one archive together
MAX_WALL_S = 120
SHOWN = 5  # names in a sentence

Row = Mapping[str, Any]


class MetadataProblemError(ValueError):
    """The metadata cannot be read; one sentence that says why."""


@dataclass(frozen=True)
class ClipMetadata:
    """What was found for an archive's clips, by clip; `problems` are (file or clips, reason), for the operator."""

    rows: Mapping[str, Row]
    clips: int
    files: int
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def matched(self) -> str:
        return f"{len(self.rows)} of {self.clips}"


def clip_metadata(
    files: Sequence[Member], clips: Sequence[str], on_progress: Callable[[], None] = lambda: None
) -> ClipMetadata:
    """Read an archive's metadata files and find the row of each clip; `on_progress` is called for each file.

    A file describes the clips of its directory and below it, and the nearest file comes first. When all files lie in
    one directory without clips, they describe the clips of the whole archive. Of several files in one directory the
    better format (see `METADATA_NAMES`) comes first.
    """
    problems = [(file.name, f"not read: {MAX_FILES} files are the limit") for file in files[MAX_FILES:]]
    tables: list[Table] = []
    left = MAX_TOTAL_CHARS
    for file in sorted(files[:MAX_FILES], key=_nearest_first):
        on_progress()
        try:
            table, used = read_table(file.path, file.name, left)
        except MetadataProblemError as error:
            problems.append((file.name, str(error)))
            continue
        left -= used
        tables.append(table)
        if table.bad:
            problems.append((file.name, f"{table.bad:,} of its rows cannot be read; the first is {table.first_bad}"))
    alone = len({PurePosixPath(file.name).parent for file in files}) == 1
    found = match_clips(tables, clips, alone=alone, on_progress=on_progress)
    if found.ambiguous:
        names = ", ".join(found.ambiguous[:SHOWN]) + (", …" if len(found.ambiguous) > SHOWN else "")
        problems.append(
            (names, f"ambiguous: {len(found.ambiguous):,} clips have several rows, or share one; none is used")
        )
    return ClipMetadata(found.rows, len(clips), len(files), tuple(problems))


def read_table(path: Path, name: str, max_chars: int = MAX_TOTAL_CHARS) -> tuple[Table, int]:
    """Rows of a metadata file that the archive calls `name`, and the characters they take; values are JSON-safe.

    Times are ISO 8601 with zone (those without one count as UTC), durations seconds, bytes text if they are UTF-8 and
    else base64, decimals text, maps lists of pairs; NaN, infinities and values above a limit are null. CSV's values
    are text. Of two columns with one name the second is called `name (2)`.

    Raises
    ------
    MetadataProblemError
        Not of the format that the name says, above a limit, or without a column that names the clips.
    """
    # Our environment holds secrets, and the child needs nothing of it; -I keeps the directory it runs in out of play.
    # The rest keeps its address space small: a limit on it is what stops a bomb.
    environment = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
    reader = Path(__file__).with_name("metadata_reader.py")
    command = [sys.executable, "-I", str(reader), str(path), str(max_chars)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=MAX_WALL_S, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise MetadataProblemError(f"it takes longer than {MAX_WALL_S} s to read") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if done.returncode == 1 and said else f"the reader died with code {done.returncode}"
        raise MetadataProblemError(f"it cannot be read: {reason[:500]}")
    try:
        answer = json.loads(done.stdout)
    except (ValueError, RecursionError) as error:
        raise MetadataProblemError("it cannot be read: the reader's answer is no JSON") from error
    table = Table(name, tuple(answer["rows"]), answer["bad"], answer["first_bad"])
    if table.rows and not any(has_key_column(row) for row in table.rows):
        columns = ascii(", ".join(list(table.rows[0])[:10]))[1:-1][:300]
        raise MetadataProblemError(
            f"no column that names the clips (one of {key_columns()}); it has {columns or 'none'}"
        )
    return table, len(done.stdout)


def _nearest_first(file: Member) -> tuple[int, int, str]:
    name = PurePosixPath(file.name)
    return -len(name.parts), METADATA_NAMES.index(name.name.lower()), file.name
