"""Metadata of clips: any columns, JSON that the database takes, and never at the cost of the clips."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import unicodedata
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from clip_metadata import MAX_ROWS, MAX_VALUE_CHARS, MetadataProblemError, match, read_metadata

MOMENT = dt.datetime(2026, 11, 20, 12, 30, 15, 123456, tzinfo=dt.UTC)


def write(path: Path, columns: dict[str, Any]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metadata.parquet"


@pytest.mark.parametrize("column", ["filename", "file_name", "File", "path", "ORIGINAL_FILENAME", "filepath"])
def test_rows_are_found_by_the_column_that_names_the_file(file: Path, column: str) -> None:
    rows = read_metadata(write(file, {"id": ["9", "8"], column: ["a.mp3", "b.mp3"], "likes": [1, 2]}))
    assert match(rows, "b.mp3") == {"id": "8", column: "b.mp3", "likes": 2}


@pytest.mark.parametrize("ids", [["7301", "7302"], [7301, 7302], [7301.0, 7302.0]])
def test_without_such_a_column_the_id_is_compared_with_the_stem(file: Path, ids: list[Any]) -> None:
    rows = read_metadata(write(file, {"video_id": ids, "likes": [1, 2]}))
    row = match(rows, "audio/7302.mp3")
    assert row is not None
    assert row["likes"] == 2


@pytest.mark.parametrize(
    ("named", "clip"),
    [
        ("a.mp3", "2026/batch/a.mp3"),
        ("batch/a.mp3", "a.mp3"),
        ("./batch//a.mp3", "other/a.mp3"),
        ("C:\\clips\\a.mp3", "a.mp3"),
        ("a", "a.mp3"),
        (" a.mp3 ", "a.mp3"),
        (unicodedata.normalize("NFD", "Zoë.mp3"), unicodedata.normalize("NFC", "Zoë.mp3")),
        (unicodedata.normalize("NFC", "Zoë.mp3"), unicodedata.normalize("NFD", "x/Zoë.mp3")),
    ],
)
def test_a_clip_is_matched_across_directories_and_spellings(file: Path, named: str, clip: str) -> None:
    assert match(read_metadata(write(file, {"filename": [named], "x": [1]})), clip) is not None


def test_equal_names_in_two_directories_are_told_apart(file: Path) -> None:
    rows = read_metadata(write(file, {"path": ["one/a.mp3", "two/a.mp3"], "x": [1, 2]}))
    assert [(match(rows, name) or {}).get("x") for name in ("in/one/a.mp3", "two/a.mp3", "a.mp3")] == [1, 2, None]


def test_of_two_rows_for_one_clip_the_last_stays_and_rows_without_a_name_are_left_out(file: Path) -> None:
    rows = read_metadata(write(file, {"filename": ["a.mp3", None, "", "a.mp3"], "x": [1, 2, 3, 4]}))
    assert {name: row["x"] for name, row in rows.items()} == {"a.mp3": 4}


def test_a_clip_without_a_row_has_none(file: Path) -> None:
    assert match(read_metadata(write(file, {"filename": ["a.mp3"]})), "b.mp3") is None


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([MOMENT], pa.timestamp("us", "UTC")), "2026-11-20T12:30:15.123456+00:00"),
        (pa.array([MOMENT], pa.timestamp("us", "Europe/Berlin")), "2026-11-20T13:30:15.123456+01:00"),
        (pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("us")), "2026-11-20T12:30:15.123456+00:00"),
        (pa.array([1_500_000_001], pa.timestamp("ns", "UTC")), "1970-01-01T00:00:01.500000+00:00"),
        (pa.array([[1_500_000_001]], pa.list_(pa.timestamp("ns"))), ["1970-01-01T00:00:01.500000+00:00"]),
        (pa.array([10**15], pa.timestamp("s")), None),
        (pa.array([1_500_000_001], pa.duration("ns")), 1.5),
        (pa.array([dt.date(2026, 1, 2)]), "2026-01-02"),
        (pa.array([dt.time(1, 2, 3)]), "01:02:03"),
        (pa.array([b"\x00\xff"]), "AP8="),
        (pa.array([float("nan")]), None),
        (pa.array([float("-inf")]), None),
        (pa.array([[1.0, float("inf")]]), [1.0, None]),
        (pa.array([decimal.Decimal("12.3400")]), "12.3400"),
        (pa.array([2**63 - 1]), 2**63 - 1),
        (pa.array([True]), True),
        (pa.array([None], pa.null()), None),
        (pa.array(["a\x00b"]), "ab"),
        (pa.array(["tag"]).dictionary_encode(), "tag"),
        (pa.array([{"a": [{"b": 1.5}], "c": None}]), {"a": [{"b": 1.5}], "c": None}),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), [["k", 1]]),
        (pa.array(["x" * (MAX_VALUE_CHARS + 1)]), None),
        (pa.array([["x" * MAX_VALUE_CHARS]]), None),
        (pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa")), "�a"),
    ],
)
def test_every_value_becomes_json_that_the_database_takes(file: Path, array: pa.Array, expected: Any) -> None:
    rows = read_metadata(write(file, {"filename": ["a.mp3"], "value": array}))
    value = rows["a.mp3"]["value"]
    assert value == expected
    assert type(value) is type(expected)
    json.dumps(value, allow_nan=False)


def test_an_uuid_is_text(file: Path) -> None:
    value = uuid.uuid4()
    array = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([value.bytes], pa.binary(16)))
    assert read_metadata(write(file, {"id": array, "x": [1]})).keys() == {str(value)}


def test_ninety_fields_of_a_thousand_clips_survive(file: Path) -> None:
    columns: dict[str, Any] = {f"field_{i}": [i * n for n in range(1000)] for i in range(90)}
    rows = read_metadata(write(file, columns | {"filename": [f"{n}.mp3" for n in range(1000)]}))
    assert rows["999.mp3"]["field_89"] == 89 * 999
    assert len(rows) == 1000


def test_an_empty_table_has_no_rows(file: Path) -> None:
    assert read_metadata(write(file, {"filename": pa.array([], pa.string())})) == {}


def _garbage(path: Path) -> None:
    path.write_bytes(b"PAR1" + b"\xff" * 1000 + b"PAR1")


def _cut(path: Path) -> None:
    write(path, {"filename": ["a.mp3"] * 100})
    path.write_bytes(path.read_bytes()[:-100])


def _corrupt(path: Path) -> None:
    write(path, {"filename": [f"{n}.mp3" for n in range(1000)]})
    data = bytearray(path.read_bytes())
    data[20:400] = b"\xa5" * 380
    path.write_bytes(data)


def _bomb(path: Path) -> None:
    """One long value named by every row: a few kilobytes that would be terabytes in memory."""
    value = pa.array(["x" * (8 << 20)])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 90_000, pa.int32()), value)
    parquet.write_table(pa.table({"filename": column}), path, compression="zstd", store_schema=False)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_bytes(b""), r"metadata\.parquet cannot be read: "),
        (lambda path: path.write_text("filename,likes\na.mp3,3\n"), r"metadata\.parquet cannot be read: "),
        (_garbage, "cannot be read: "),
        (_cut, "cannot be read: "),
        (_corrupt, "cannot be read: "),
        (_bomb, "cannot be read: "),
        (lambda _: None, "cannot be read: .*No such file"),
        (lambda path: path.mkdir(), "cannot be read: "),
        (lambda path: write(path, {"filename": pa.nulls(MAX_ROWS + 1)}), r"100,001 rows, above the limit of 100,000"),
        (lambda path: write(path, {f"c{n}": [1] for n in range(2001)}), r"2,001 columns, above the limit of 2,000"),
        (lambda path: write(path, {"likes": [1]}), r"no column that names the clips .* it has likes"),
    ],
)
def test_what_cannot_be_read_is_a_problem_in_one_sentence(file: Path, make: Any, sentence: str) -> None:
    make(file)
    with pytest.raises(MetadataProblemError, match=sentence) as caught:
        read_metadata(file)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
