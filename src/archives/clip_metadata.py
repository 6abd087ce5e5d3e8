"""Metadata of clips: what the platform knows about each clip, read from the metadata files of an archive.

The platform may change the columns without notice, so any columns are accepted. `metadata_matching.py` decides which
row describes which clip. A problem with metadata never stops the clips; it is reported to the operator.

The files are untrusted and their formats are complex. The parquet reader is native code, and a few hostile bytes can
make it request all memory. So a child process reads each file (`metadata_reader.py`) and returns JSON. It does not get
our environment, and its memory and time are limited. This costs half a second per file.
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
SHOWN = 5  # names listed in a message

Row = Mapping[str, Any]


class MetadataProblemError(ValueError):
    """The metadata cannot be read; the message is one sentence with the reason."""


@dataclass(frozen=True)
class ClipMetadata:
    """The row found for each clip, by the clip's name; `problems` are pairs of (file or clips, reason)."""

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

    A file describes the clips in its directory and below. If several files describe a clip, the nearest file is used
    first; if they are in one directory, the better format (see `METADATA_NAMES`) is used first. If all metadata files
    are in one directory without clips, they describe the clips of the whole archive.
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
    """Read the metadata file `name` of the archive -> its rows, with JSON values, and the characters they take.

    Times become ISO 8601 with a zone (a time without a zone counts as UTC), durations become seconds, bytes become text
    (base64 if they are not UTF-8), decimals become text, and maps become lists of pairs. NaN, infinities and values
    above a limit become null. All values of a CSV file are text. If two columns have the same name, the second is
    called `name (2)`.

    Raises
    ------
    MetadataProblemError
        The file does not have the format of its name, is above a limit, or has no column that names the clips.
    """
    # Our environment holds secrets and the child needs none of them. With -I, Python imports nothing from the current
    # directory. The variables keep the address space small, because a limit on it stops decompression bombs.
    environment = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
    reader = Path(__file__).with_name("metadata_reader.py")
    command = [sys.executable, "-I", str(reader), str(path), str(max_chars)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=MAX_WALL_S, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise MetadataProblemError(f"reading the file takes longer than {MAX_WALL_S} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if done.returncode == 1 and said else f"the reader ended with code {done.returncode}"
        raise MetadataProblemError(f"the file cannot be read: {reason[:500]}")
    try:
        answer = json.loads(done.stdout)
    except (ValueError, RecursionError) as error:
        raise MetadataProblemError("the file cannot be read: the reader's answer is not JSON") from error
    table = Table(name, tuple(answer["rows"]), answer["bad"], answer["first_bad"])
    if table.rows and not any(has_key_column(row) for row in table.rows):
        columns = ascii(", ".join(list(table.rows[0])[:10]))[1:-1][:300]
        raise MetadataProblemError(
            f"no column names the clips (expected one of {key_columns()}); the columns are {columns or 'none'}"
        )
    return table, len(done.stdout)


def _nearest_first(file: Member) -> tuple[int, int, str]:
    name = PurePosixPath(file.name)
    return -len(name.parts), METADATA_NAMES.index(name.name.lower()), file.name
