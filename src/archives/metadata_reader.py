"""The child process of `clip_metadata.py`: reads a metadata file and writes its rows as JSON that Postgres accepts.

It reads parquet, JSON (lines, an array, or one object that holds the rows) and CSV, with any columns. A value that
cannot be read becomes null. A line that cannot be read is left out and counted. The process runs without our
environment and imports none of our modules. Its arguments are the file and the maximum number of characters to return.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import csv
import datetime as dt
import json
import math
import re
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 64 << 20  # the metadata of an archive of ten minutes have less than 1 MB
MAX_ROWS = 100_000  # five times the members an archive may have
MAX_COLUMNS = 2_000
MAX_VALUE_CHARS = 100_000  # of one value as JSON; a longer value becomes null
MAX_DEPTH = 50  # of a value; a deeper value becomes null
MAX_MEMORY_BYTES = 2 << 30  # address space of this process
MAX_CPU_S = 30  # a thousand rows of ninety columns take one
MAX_RECORD_LINES = 200  # of one CSV record; else a quote that is never closed takes in the rest of the file
# The keys under which an object may hold the rows.
WRAPPERS = {
    "data",
    "items",
    "itemlist",
    "videos",
    "rows",
    "posts",
    "clips",
    "results",
    "records",
    "aweme_list",
    "entries",
}

Row = dict[str, Any]


class UnreadableError(ValueError):
    """The whole file cannot be used; the message is one sentence with the reason."""


class Rows:
    """The rows that were read, checked against the limits, and a count of the lines that cannot be read."""

    def __init__(self, max_chars: int) -> None:
        self.kept: list[Row] = []
        self._max_chars = self._left = max_chars
        self.bad = 0
        self.first_bad = ""

    def add(self, names: Iterable[str], values: Iterable[Any]) -> None:
        row = {name: _bounded(value) for name, value in zip(_distinct(names), values, strict=True)}
        self._left -= len(json.dumps(row))
        self.kept.append(row)
        if self._left < 0:
            raise UnreadableError(f"its values have more than {self._max_chars:,} characters, which is the limit")
        if len(self.kept) > MAX_ROWS:
            raise UnreadableError(f"it has more than {MAX_ROWS:,} rows, which is the limit")

    def lost(self, where: str) -> None:
        self.bad += 1
        self.first_bad = self.first_bad or where


# Parquet


def read_parquet(path: Path, rows: Rows) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    pa.set_cpu_count(1)
    # pre_buffer and memory_map are off: with them, a false size in the file makes the reader request too much memory.
    with parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        if (count := file.metadata.num_rows) > MAX_ROWS:
            raise UnreadableError(f"it has {count:,} rows, above the limit of {MAX_ROWS:,}")
        if (count := len(file.schema_arrow.names)) > MAX_COLUMNS:
            raise UnreadableError(f"it has {count:,} columns, above the limit of {MAX_COLUMNS:,}")
        for batch in file.iter_batches(batch_size=1000, use_threads=False):
            names = batch.schema.names
            for values in zip(*[_column(column) for column in batch.columns], strict=True):
                rows.add(names, values)


def _column(array: Any) -> list[Any]:  # noqa: PLR0911 - a table: one branch per kind of type
    """The values of an array of any type and depth; a value that JSON cannot hold becomes null."""
    import pyarrow as pa

    kind, types = array.type, pa.types
    if types.is_dictionary(kind):
        words = _column(array.dictionary)
        return [None if index is None else words[index] for index in array.indices.to_pylist()]
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        plain = pa.large_binary() if types.is_large_string(kind) else pa.binary()
        return [None if data is None else _decoded(data, "replace") for data in _binary(array, plain)]
    if types.is_struct(kind):
        names = list(_distinct([field.name for field in kind]))
        children = [_column(child) for child in array.flatten()]
        present = array.is_valid().to_pylist()
        fields = zip(*children, strict=True) if children else iter([()] * len(array))
        return [
            dict(zip(names, values, strict=True)) if there else None
            for there, values in zip(present, fields, strict=True)
        ]
    if types.is_map(kind):
        return [None if item is None else _pairs(item) for item in _lists(array)]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _lists(array)
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType):
        return _column(array.storage)
    with contextlib.suppress(pa.ArrowException):  # if the cast fails, the array is read without it
        array = array.cast(_microseconds(kind), safe=False)
    return [_scalar(scalar) for scalar in array]


def _binary(array: Any, plain: Any) -> list[bytes | None]:
    """The bytes of a text array; they may be invalid UTF-8."""
    found: list[bytes | None] = array.cast(plain, safe=False).to_pylist()
    return found


def _lists(array: Any) -> list[Any]:
    """The values of a list or map array; the values of a map are structs of key and value."""
    return [None if (inner := scalar.values) is None else _column(inner) for scalar in array]


def _pairs(entries: list[Row]) -> list[list[Any]]:
    return [list(entry.values()) for entry in entries]


def _microseconds(kind: Any) -> Any:
    """The same type in microseconds, the smallest unit of Python's time types."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    return pa.time64("us") if pa.types.is_time64(kind) else kind


def _scalar(scalar: Any) -> Any:
    import pyarrow as pa

    with contextlib.suppress(ValueError, OverflowError, LookupError, pa.ArrowException):
        return _plain(scalar.as_py())
    if pa.types.is_timestamp(scalar.type) and scalar.type.tz:  # the zone is unknown, but the time in UTC is known
        with contextlib.suppress(ValueError, OverflowError, pa.ArrowException):
            return _plain(scalar.cast(pa.timestamp("us", "UTC")).as_py())
    return None  # for example, a time after the year 9999


# CSV


def read_csv(path: Path, rows: Rows) -> None:
    csv.field_size_limit(MAX_FILE_BYTES)
    lines = _lines(_text(path.read_bytes()))
    at, delimiter = 0, ""
    if lines and (said := re.fullmatch(r'"?sep=(.)"?\s*', lines[0])):  # this line tells Excel the delimiter
        at, delimiter = 1, said[1]
    header: list[str] | None = None
    while at < len(lines):
        if header is None and not delimiter and lines[at].strip():
            delimiter = max("\t;,|", key=re.sub(r'"[^"]*"', "", lines[at]).count)
        record, following = _record(lines, at, delimiter or ",", len(header or ()))
        if record is not None and not any(field.strip() for field in record):
            pass  # a blank line
        elif header is None:
            header = [name.strip() or f"column {number}" for number, name in enumerate(record or [], 1)]
            if len(header) > MAX_COLUMNS:
                raise UnreadableError(f"it has {len(header):,} columns, above the limit of {MAX_COLUMNS:,}")
        elif record is None or any(record[len(header) :]):
            rows.lost(f"line {at + 1}")  # with more fields than the header, the columns are shifted
        else:
            fields = record[: len(header)] + [""] * (len(header) - len(record))
            rows.add(header, [field or None for field in fields])
        at = following


def _lines(text: str) -> list[str]:
    """Lines with their line ends. str.splitlines would also split at characters that may stand inside a text."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def _record(lines: list[str], at: int, delimiter: str, width: int) -> tuple[list[str] | None, int]:
    """The record that begins at line `at` (None when it cannot be read), and the index of the next line."""
    reader = csv.reader(iter(lines[at : at + MAX_RECORD_LINES]), delimiter=delimiter, strict=True)
    with contextlib.suppress(csv.Error, StopIteration):
        return next(reader), at + reader.line_num
    # A quote inside quotes, or one that is never closed: use the line alone if it has the right number of fields.
    alone = next(csv.reader([lines[at].rstrip("\r\n")], delimiter=delimiter), None)
    return (alone if alone and (len(alone) == width or not width) else None), at + 1


# JSON


def read_json(path: Path, rows: Rows) -> None:
    text = _text(path.read_bytes())
    whole: Any = None
    if not _is_object_per_line(text):
        with contextlib.suppress(ValueError, RecursionError):
            whole = _loads(text)
    if whole is not None:
        for number, item in enumerate(_items(whole), 1):
            _add_object(rows, item, f"entry {number}")
        return
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        bare = line.strip().rstrip(",")
        if bare in {"", "[", "]"}:
            continue
        try:
            item = _loads(bare)
        except (ValueError, RecursionError):
            item = None
        _add_object(rows, item, f"line {number}")


def _is_object_per_line(text: str) -> bool:
    first = text.lstrip().split("\n", 1)
    with contextlib.suppress(ValueError, RecursionError):
        return len(first) == 2 and bool(first[1].strip()) and isinstance(_loads(first[0]), dict)
    return False


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=lambda _: None)


def _items(whole: Any) -> Iterable[Any]:
    """The rows in a JSON document: an array, an object with one array in it, or objects by id."""
    if isinstance(whole, list):
        return whole
    if not isinstance(whole, dict):
        return [None]
    lists = [value for key, value in whole.items() if key.lower() in WRAPPERS and isinstance(value, list)]
    if len(lists) == 1:
        return lists[0]
    if whole and all(isinstance(value, dict) for value in whole.values()):
        return [{"id": key, **value} for key, value in whole.items()]
    return [whole]


def _add_object(rows: Rows, item: Any, where: str) -> None:
    if not isinstance(item, dict) or len(item) > MAX_COLUMNS:
        rows.lost(where)
        return
    rows.add(item, [_plain(value) if _depth_within(value, MAX_DEPTH) else None for value in item.values()])


# Text and values


def _text(data: bytes) -> str:
    """Decode a file's text: by its byte order mark, or else with the most probable encoding."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace").replace("\0", "")
    if data[:200].count(0) > len(data[:200]) // 4:
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le", "replace").replace("\0", "")
    text = data.decode("utf-8", "replace").replace("\0", "")
    bad = text.count("\ufffd")
    if bad and bad > sum(character > "\x7f" for character in text) - bad:  # most of the text is not UTF-8
        return data.decode("cp1252", "replace").replace("\0", "")
    return text


def _decoded(data: bytes, errors: str) -> str:
    return data.decode("utf-8", errors).replace("\0", "")


def _plain(value: Any) -> Any:  # noqa: PLR0911 - a table: one line per type
    """Convert a value to JSON that Postgres accepts: without NUL characters and single surrogates."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case str():
            return _clean(value)
        case bytes():
            return _text_or_base64(value)
        case dt.datetime():
            return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).isoformat()
        case dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Mapping():
            return {_clean(str(key)): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:  # decimals, UUIDs, intervals
            return str(value)


def _clean(text: str) -> str:
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        return text.replace("\0", "")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "")


def _text_or_base64(data: bytes) -> str:
    """Bytes as text if they are text, which many writers declare as bytes; or else as base64."""
    with contextlib.suppress(UnicodeDecodeError):
        text = data.decode()
        if not re.search(r"[\x00-\x08\x0e-\x1f]", text):
            return text
    return base64.b64encode(data).decode()


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """Make names of columns distinct: the second of two equal names gets a number."""
    seen: dict[str, int] = {}
    for name in names:
        clean = _clean(name)
        seen[clean] = seen.get(clean, 0) + 1
        yield clean if seen[clean] == 1 else f"{clean} ({seen[clean]})"


def _depth_within(value: Any, most: int) -> bool:
    """Whether the value's nesting is at most `most`. Without recursion, which fails on deep values."""
    layer: list[Any] = [value]
    for _ in range(most):
        layer = [
            inner
            for item in layer
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not layer:
            return True
    return False


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE_CHARS else None
    if isinstance(value, list | dict):
        return value if _depth_within(value, MAX_DEPTH) and len(json.dumps(value)) <= MAX_VALUE_CHARS else None
    return value


READERS: dict[str, Callable[[Path, Rows], None]] = {
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
}


def _main(path: Path, max_chars: int) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    rows = Rows(max_chars)
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UnreadableError(f"it has {size:,} bytes, above the limit of {MAX_FILE_BYTES:,}")  # noqa: TRY301
        READERS[path.suffix](path, rows)
    except Exception as error:  # noqa: BLE001 - the parent needs the reason, whatever it is
        first = (str(error) or type(error).__name__).strip().splitlines()[0]
        sys.stderr.write(f"{ascii(first)[1:-1]}\n")
        return 1
    json.dump({"rows": rows.kept, "bad": rows.bad, "first_bad": rows.first_bad}, sys.stdout, allow_nan=False)
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), int(sys.argv[2])))
