"""CSV and Parquet of a snapshot, made of its canonical file block by block: memory does not grow with the rows."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from app.export.columns import LISTS, Column

BLOCK = 2 * 1024 * 1024  # bytes of JSON that are read at once
GROUP = 32_768  # rows of a row group of Parquet

GATHERED = 10_000  # rows of CSV that are made at once

ARROW = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "text": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
    "texts": pa.list_(pa.string()),
    "integers": pa.list_(pa.int64()),
    "parts": pa.list_(pa.list_(pa.float64())),
    "json": pa.string(),
}
# What a spreadsheet runs as a formula, also behind blanks, also in full-width signs; and the apostrophe itself, so that
# it can be taken away again without loss.
_WIDE = r"\x{85}\x{A0}\x{1680}\x{180E}\x{2000}-\x{200F}\x{2028}\x{2029}\x{202F}\x{205F}-\x{2064}\x{3000}\x{FEFF}"
_BLANK = rf"[\s\x00-\x20{_WIDE}]"
FORMULA = rf"\A('|[\t\r\n]|{_BLANK}*[=+\-@＝＋－＠﹢﹣])"


def schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the schema. Each field carries its meaning and unit."""
    return pa.schema(
        [
            pa.field(column.name, ARROW[column.type], metadata={"meaning": column.meaning, "unit": column.unit})
            for column in columns
        ]
    )


def blocks(source: Path, columns: tuple[Column, ...]) -> Iterator[pa.RecordBatch]:
    """Return the rows of the canonical file, about 1,500 at a time.

    Raises
    ------
    pyarrow.ArrowInvalid
        A row has another column, or a value of another type.
    """
    wanted = pa.schema([pa.field(column.name, ARROW[column.type]) for column in columns])
    options = pj.ParseOptions(explicit_schema=wanted, unexpected_field_behavior="error")
    if not _has_rows(source):  # the reader wants at least one
        return
    reading = pj.ReadOptions(use_threads=False, block_size=BLOCK)  # threads read far ahead, and hold all of it
    with pa.input_stream(str(source), compression="gzip") as stream:
        yield from pj.open_json(stream, read_options=reading, parse_options=options)


def _has_rows(source: Path) -> bool:
    with gzip.open(source) as packed:
        return bool(packed.read(1))


def write_parquet(source: Path, target: Path, columns: tuple[Column, ...], tell: Callable[[int], None]) -> None:
    """Write Parquet. The settings are fixed and no time is written, so the same rows make the same bytes."""
    made = schema(columns)
    rows, kept, held = 0, 0, []
    with pq.ParquetWriter(
        str(target), made, version="2.6", data_page_version="1.0", compression="zstd", compression_level=3
    ) as writer:
        for batch in blocks(source, columns):
            held.append(batch.cast(made))
            kept += batch.num_rows
            rows += batch.num_rows
            if kept >= GROUP:
                writer.write_table(pa.Table.from_batches(held, made), row_group_size=GROUP)
                kept, held = 0, []
            tell(rows)
        if held or not rows:
            writer.write_table(pa.Table.from_batches(held, made), row_group_size=GROUP)


def write_csv(source: Path, target: Path, columns: tuple[Column, ...], tell: Callable[[int], None]) -> None:
    """Write CSV by RFC 4180: UTF-8, CR LF at the end of lines, text in quotation marks, numbers and empty cells not."""
    rows = 0
    with target.open("wb") as file:
        file.write((",".join(quoted(column.name) for column in columns) + "\r\n").encode())
        for batch in _gathered(blocks(source, columns)):
            written = [cells(batch.column(n), column) for n, column in enumerate(columns)]
            lines = pc.binary_join_element_wise(*written, ",", null_handling="replace", null_replacement="")
            ended = pc.binary_join_element_wise(lines, "\r\n", "")
            file.write(_bytes(ended))
            rows += batch.num_rows
            tell(rows)


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Put small batches together: to compile the pattern of formulas takes longer than to look at 1,000 cells."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(one.num_rows for one in held) >= GATHERED:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held = []
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def quoted(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs; what `cells` does for a whole column."""
    return str(_texts(pa.array([text]))[0])


def cells(values: Any, column: Column) -> Any:
    """Return the cells of a column, as they stand in the CSV."""
    if column.type in {"text", "json"}:
        return _texts(values)
    if column.type == "time":
        return pc.binary_replace_slice(pc.cast(values, pa.string()), 10, 11, "T")  # a blank stands there
    if column.type in LISTS:
        return _texts(_as_json(values, column.type))
    return pc.cast(values, pa.string())


def _texts(values: Any) -> Any:
    """Return texts as quoted cells. Most columns repeat few texts, so each different text is looked at once."""
    coded = values.dictionary_encode()
    safe = pc.replace_substring_regex(coded.dictionary, pattern=FORMULA, replacement=r"'\1")
    made = pc.binary_join_element_wise('"', pc.replace_substring(safe, '"', '""'), '"', "")
    return made.take(coded.indices)


def _as_json(values: Any, kind: str) -> Any:
    """Return lists as JSON text."""
    if kind == "parts":
        inner = values.flatten()
        inside = _joined(inner, pc.cast(inner.flatten(), pa.string()))
    else:
        inside = values.flatten()
        inside = _json_texts(inside) if kind == "texts" else pc.cast(inside, pa.string())
    return _joined(values, inside)


def _joined(lists: Any, inside: Any) -> Any:
    """Return `[a, b]` for each list, given the texts of all elements one after the other."""
    whole = pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64())
    ends = pc.cumulative_sum(whole)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends]).cast(pa.int32())
    texts = pa.ListArray.from_arrays(offsets, inside)
    made = pc.binary_join_element_wise("[", pc.binary_join(texts, ", "), "]", "")
    return pc.if_else(pc.is_valid(lists), made, pa.scalar(None, pa.string()))


def _json_texts(values: Any) -> Any:
    escaped = pc.replace_substring(pc.replace_substring(values, "\\", "\\\\"), '"', '\\"')
    return pc.binary_join_element_wise('"', escaped, '"', "")


def _bytes(texts: Any) -> Any:
    """Return the texts one after the other, without copying them one by one."""
    joined = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if not len(joined):
        return b""
    offsets = joined.buffers()[1]
    first, last = (int.from_bytes(offsets[4 * n : 4 * n + 4].to_pybytes(), "little")
                   for n in (joined.offset, joined.offset + len(joined)))  # fmt: skip
    return memoryview(joined.buffers()[2])[first:last]
