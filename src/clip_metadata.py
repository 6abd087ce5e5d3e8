"""Reading metadata.parquet: what the platform says about each clip, as JSON that Postgres takes.

The columns are the platform's business and change without notice, so any will do; only the one that names the clips
must be found. Metadata never cost the clips: whatever is wrong here raises `MetadataProblemError`, which the caller
turns into a warning.

The file is untrusted, its format is intricate, and its reader is native code that a few hostile bytes can make ask for
all memory. So a child process reads it, without our environment and with bounds on memory and time, and hands back
JSON. That costs half a second per archive.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import math
import resource
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

MAX_FILE_BYTES = 64 << 20  # a ten-minute archive's metadata are below 1 MB
MAX_ROWS = 100_000  # five times the members an archive may have
MAX_COLUMNS = 2_000
MAX_VALUE_CHARS = 100_000  # of one value as JSON; a longer one is left out
MAX_TOTAL_CHARS = 256 << 20  # of all values together
MAX_MEMORY_BYTES = 2 << 30  # address space of the reading process
MAX_CPU_S = 30  # a thousand rows of ninety columns take one
MAX_WALL_S = 120

FILE_COLUMNS = ("filename", "file_name", "file", "path", "original_filename", "filepath", "file_path")
ID_COLUMNS = ("video_id", "id", "aweme_id", "item_id", "clip_id")

Rows = dict[str, dict[str, Any]]
Row = TypeVar("Row", bound=Mapping[str, Any])


class MetadataProblemError(ValueError):
    """The metadata cannot be read; one sentence that says why."""


def read_metadata(path: Path) -> Rows:
    """Rows of a metadata.parquet, keyed by the clip they describe (look them up with `match`); values are JSON-safe.

    The key is the first of `FILE_COLUMNS` that exists, else the first of `ID_COLUMNS`, in any case of letters.
    Directories are dropped from keys unless that would make two rows the same. Of several rows with one key the last
    stays: it is the platform's latest word. Times are ISO 8601 with zone (those without one count as UTC), durations
    seconds, bytes base64, decimals text; NaN, infinities and values above `MAX_VALUE_CHARS` are null.

    Raises
    ------
    MetadataProblemError
        No parquet, above a limit, or without a column that names the clips.
    """
    # Our environment holds secrets, and the child needs nothing of it; -I keeps the directory it runs in out of play.
    # The rest keeps its address space small: a limit on it is what stops a bomb.
    environment = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", __file__, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=MAX_WALL_S, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise MetadataProblemError(f"{path.name} takes longer than {MAX_WALL_S} s to read") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if done.returncode == 1 and said else f"the reader died with code {done.returncode}"
        raise MetadataProblemError(f"{path.name} cannot be read: {reason[:500]}")
    table: list[dict[str, Any]] = json.loads(done.stdout)
    return _keyed(table, path.name)


def match(rows: Mapping[str, Row], clip_name: str) -> Row | None:
    """The row that describes a clip: by its path or any end of it, else by its file name without extension."""
    parts = _path(clip_name).split("/")
    names = ["/".join(parts[start:]) for start in range(len(parts))] + [PurePosixPath(parts[-1]).stem]
    return next((rows[name] for name in names if name in rows), None)


def _keyed(table: list[dict[str, Any]], file: str) -> Rows:
    if not table:
        return {}
    column = _key_column(table[0], file)
    paths = {_path(_text(row[column])): row for row in table if _text(row[column])}
    bases: dict[str, int] = {}
    for path in paths:
        bases[PurePosixPath(path).name] = bases.get(PurePosixPath(path).name, 0) + 1
    return {base if bases[base := PurePosixPath(path).name] == 1 else path: row for path, row in paths.items()}


def _key_column(columns: Iterable[str], file: str) -> str:
    by_lower: dict[str, str] = {}
    for column in columns:
        by_lower.setdefault(column.lower(), column)
    for wanted in FILE_COLUMNS + ID_COLUMNS:
        if wanted in by_lower:
            return by_lower[wanted]
    raise MetadataProblemError(
        f"{file} has no column that names the clips (one of {', '.join(FILE_COLUMNS + ID_COLUMNS)}); it has "
        f"{', '.join(list(by_lower)[:10]) or 'none'}"
    )


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():  # what ids become in a column with gaps
        value = int(value)
    return "" if value is None else str(value).strip()


def _path(name: str) -> str:
    """One spelling for a name: composed characters (archives made on a Mac decompose them), plain slashes."""
    composed = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
    return "/".join(part for part in composed.split("/") if part not in {"", "."})


# What follows runs in the child process.


def _read_table(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    pa.set_cpu_count(1)
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise MetadataProblemError(f"it has {size:,} bytes, above the limit of {MAX_FILE_BYTES:,}")
    # pre_buffer and mapping off: both ask for memory by what the file claims.
    with parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        if (count := file.metadata.num_rows) > MAX_ROWS:
            raise MetadataProblemError(f"it has {count:,} rows, above the limit of {MAX_ROWS:,}")
        if (count := len(file.schema_arrow.names)) > MAX_COLUMNS:
            raise MetadataProblemError(f"it has {count:,} columns, above the limit of {MAX_COLUMNS:,}")
        rows: list[dict[str, Any]] = []
        left = MAX_TOTAL_CHARS
        for batch in file.iter_batches(batch_size=1000, use_threads=False):
            columns: dict[str, list[Any]] = {}
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                columns.setdefault(name, [_bounded(_plain(value)) for value in _values(column)])
            fresh = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            left -= len(json.dumps(fresh))
            rows += fresh
            if left < 0 or len(rows) > MAX_ROWS:  # the footer need not tell the truth
                raise MetadataProblemError(f"its values are above the limit of {MAX_TOTAL_CHARS:,} characters")
        return rows


def _values(column: Any) -> Iterator[Any]:
    """The values of a column; those of a column that Python cannot express (times beyond year 9999) become null."""
    import pyarrow as pa

    with contextlib.suppress(pa.ArrowException):  # what cannot be cast is tried as it is
        column = column.cast(_without_nanoseconds(column.type), safe=False)
    for scalar in column:
        try:
            yield scalar.as_py()
        except UnicodeDecodeError:
            yield scalar.as_buffer().to_pybytes().decode(errors="replace")
        except (ValueError, OverflowError, pa.ArrowException):
            yield None


def _without_nanoseconds(kind: Any) -> Any:
    """The same type with microseconds, the finest that Python's own times know."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_list(kind):
        return pa.list_(_without_nanoseconds(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_nanoseconds(field.type)) for field in kind])
    return kind


def _plain(value: Any) -> Any:  # noqa: PLR0911 - a table: one line per type
    """A value as JSON has it, and as Postgres takes it: without NUL characters."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case str():
            return value.replace("\0", "")
        case bytes():
            return base64.b64encode(value).decode()
        case dt.datetime():
            return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).isoformat()
        case dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Mapping():
            return {str(key).replace("\0", ""): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:  # decimals, UUIDs, intervals
            return str(value)


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE_CHARS else None
    if isinstance(value, list | dict):
        return value if len(json.dumps(value)) <= MAX_VALUE_CHARS else None
    return value


def _main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        table = _read_table(Path(sys.argv[1]))
    except Exception as error:  # noqa: BLE001 - the parent needs the reason, whatever it is
        first = (str(error) or type(error).__name__).strip().splitlines()[0]
        sys.stderr.write(f"{first}\n")
        return 1
    json.dump(table, sys.stdout, allow_nan=False)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
