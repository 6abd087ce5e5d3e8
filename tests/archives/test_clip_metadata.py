"""Metadata of clips: any columns, JSON that the database accepts, and no metadata file stops the clips."""

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

from archives.clip_metadata import MAX_FILES, ClipMetadata, MetadataProblemError, clip_metadata, read_table
from archives.extract import Member
from archives.metadata_reader import MAX_DEPTH, MAX_ROWS, MAX_VALUE_CHARS

BAD = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa"))
MOMENT = dt.datetime(2026, 11, 20, 12, 30, 15, 123456, tzinfo=dt.UTC)


def write(path: Path, columns: dict[str, Any]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def rows_of(path: Path) -> tuple[Any, ...]:
    return read_table(path, path.name)[0].rows


def value_of(file: Path, array: pa.Array) -> Any:
    return rows_of(write(file, {"filename": ["a.mp3"], "value": array}))[0]["value"]


def metadata(folder: Path, files: dict[str, bytes], *clips: str) -> ClipMetadata:
    members = []
    for number, (name, data) in enumerate(files.items()):
        path = folder / f"{number:05}{Path(name).suffix}"
        path.write_bytes(data)
        members.append(Member(name, path, len(data)))
    return clip_metadata(members, clips)


def table(folder: Path, columns: dict[str, Any]) -> bytes:
    return write(folder / "made.parquet", columns).read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metadata.parquet"


@pytest.mark.parametrize("column", ["filename", "file_name", "File", "path", "ORIGINAL_FILENAME", "filepath"])
def test_rows_are_found_by_the_column_that_names_the_file(tmp_path: Path, column: str) -> None:
    data = table(tmp_path, {"id": ["9", "8"], column: ["a.mp3", "b.mp3"], "likes": [1, 2]})
    found = metadata(tmp_path, {"metadata.parquet": data}, "b.mp3")
    assert found.rows == {"b.mp3": {"id": "8", column: "b.mp3", "likes": 2}}
    assert (found.matched, found.problems) == ("1 of 1", ())


@pytest.mark.parametrize("ids", [["7301", "7302"], [7301, 7302], [7301.0, 7302.0]])
def test_without_such_a_column_the_id_is_compared_with_the_stem(tmp_path: Path, ids: list[Any]) -> None:
    data = table(tmp_path, {"video_id": ids, "likes": [1, 2]})
    assert metadata(tmp_path, {"metadata.parquet": data}, "audio/7302.mp3").rows["audio/7302.mp3"]["likes"] == 2


@pytest.mark.parametrize(
    ("named", "clip"),
    [
        ("a.mp3", "2026/batch/a.mp3"),
        ("batch/a.mp3", "a.mp3"),
        ("./batch//a long name.mp3", "other/a long name.mp3"),
        ("C:\\clips\\a.mp3", "a.mp3"),
        ("a", "a.mp3"),
        (" a.mp3 ", "a.mp3"),
        (unicodedata.normalize("NFD", "Zoë.mp3"), unicodedata.normalize("NFC", "Zoë.mp3")),
        (unicodedata.normalize("NFC", "Zoë.mp3"), unicodedata.normalize("NFD", "x/Zoë.mp3")),
    ],
)
def test_a_clip_is_matched_across_directories_and_spellings(tmp_path: Path, named: str, clip: str) -> None:
    data = table(tmp_path, {"filename": [named], "x": [1]})
    assert list(metadata(tmp_path, {"metadata.parquet": data}, clip).rows) == [clip]


def test_of_two_rows_for_one_clip_the_last_stays(tmp_path: Path) -> None:
    data = table(tmp_path, {"filename": ["a.mp3", None, "", "a.mp3"], "x": [1, 2, 3, 4]})
    assert metadata(tmp_path, {"metadata.parquet": data}, "a.mp3", "b.mp3").rows == {
        "a.mp3": {"filename": "a.mp3", "x": 4}
    }


def test_each_file_describes_its_directory_and_a_broken_one_is_named(tmp_path: Path) -> None:
    files = {
        "alice/metadata.parquet": table(tmp_path, {"filename": ["1.wav"], "of": ["alice"]}),
        "bob/metadata.csv": b"filename,of\n1.wav,bob\n",
        "carol/metadata.parquet": b"PAR1 broken",
    }
    found = metadata(tmp_path, files, "alice/1.wav", "bob/1.wav", "carol/1.wav")
    assert {clip: row["of"] for clip, row in found.rows.items()} == {"alice/1.wav": "alice", "bob/1.wav": "bob"}
    assert found.matched == "2 of 3"
    [(name, reason)] = found.problems
    assert name == "carol/metadata.parquet"
    assert reason.startswith("the file cannot be read: ")


def test_a_broken_file_leaves_its_clips_to_another_one_in_its_directory(tmp_path: Path) -> None:
    files = {"x/metadata.csv": b"id,likes\n7301,3\n", "x/metadata.parquet": b"PAR1 broken"}
    found = metadata(tmp_path, files, "x/7301.wav")
    assert found.rows == {"x/7301.wav": {"id": "7301", "likes": "3"}}
    assert [name for name, _ in found.problems] == ["x/metadata.parquet"]


def test_parquet_comes_before_other_formats_in_one_directory(tmp_path: Path) -> None:
    files = {
        "metadata.csv": b"filename,of\na.wav,csv\nb.wav,csv\n",
        "metadata.parquet": table(tmp_path, {"filename": ["a.wav"], "of": ["parquet"]}),
    }
    found = metadata(tmp_path, files, "a.wav", "b.wav").rows
    assert {clip: row["of"] for clip, row in found.items()} == {"a.wav": "parquet", "b.wav": "csv"}


def test_ambiguous_clips_are_named_for_the_operator(tmp_path: Path) -> None:
    found = metadata(tmp_path, {"metadata.csv": b"filename\n1.wav\n"}, *(f"{name}/1.wav" for name in "abcdefg"))
    assert found.matched == "0 of 7"
    [(names, reason)] = found.problems
    assert names == "a/1.wav, b/1.wav, c/1.wav, d/1.wav, e/1.wav, …"
    assert reason == "ambiguous: 7 clips have several rows, or share one; none is used"


def test_a_flood_of_metadata_files_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archives.clip_metadata.MAX_FILES", 2)
    assert MAX_FILES == 100
    files = {f"{name}/metadata.csv": b"filename\n1.wav\n" for name in "abc"}
    found = metadata(tmp_path, files, "a/1.wav", "b/1.wav", "c/1.wav")
    assert list(found.rows) == ["a/1.wav", "b/1.wav"]
    assert found.problems == (("c/metadata.csv", "not read: 2 files are the limit"),)


# One file holds all of them, because each file that is read costs a process.
VALUES: list[tuple[pa.Array, Any]] = [
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
    (BAD, "�a"),
    (pa.StructArray.from_arrays([BAD, pa.array([1])], ["t", "n"]), {"t": "�a", "n": 1}),
    (pa.ListArray.from_arrays([0, 1], BAD), ["�a"]),
    (pa.ListArray.from_arrays([0, 1], pa.StructArray.from_arrays([BAD], ["t"])), [{"t": "�a"}]),
    (pa.MapArray.from_arrays([0, 1], pa.array(["k"]), BAD), [["k", "�a"]]),
    (BAD.cast(pa.binary()).cast(pa.large_binary()), "/2E="),
    (pa.array(["Zoë 日本".encode()]), "Zoë 日本"),
    (pa.array([[b"tag", None]]), ["tag", None]),
    (pa.array([None, {"a": 1}], pa.struct([("a", pa.int64())]))[:1], None),
    (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), [1, 2]),
    (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    (pa.array([decimal.Decimal("-1E+3")], pa.decimal256(50, 2)), "-1000.00"),
    (pa.array([1.5], pa.float16()), 1.5),
    (pa.array([[[float("nan")]]]), [[None]]),
    (pa.array([1_500_000_001], pa.timestamp("ns", "+05:30")), "1970-01-01T05:30:01.500000+05:30"),
    (pa.array([1_500_001], pa.timestamp("us", "Mars/Olympus")), "1970-01-01T00:00:01.500001+00:00"),
    (pa.array(["tag", None]).dictionary_encode()[1:], None),
]


def test_every_value_becomes_json_that_the_database_takes(file: Path) -> None:
    columns = {f"{number} {array.type}": array for number, (array, _) in enumerate(VALUES)}
    [row] = rows_of(write(file, {"filename": ["a.mp3"], **columns}))
    for name, (_, expected) in zip(columns, VALUES, strict=True):
        value = row[name]
        assert value == expected, name
        assert type(value) is type(expected), name
    json.dumps(row, allow_nan=False)


def test_an_uuid_is_text(file: Path) -> None:
    value = uuid.uuid4()
    array = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([value.bytes], pa.binary(16)))
    assert rows_of(write(file, {"id": array, "x": [1]}))[0]["id"] == str(value)


def test_columns_of_one_name_are_both_kept(file: Path) -> None:
    parquet.write_table(pa.table([pa.array(["a.mp3"]), pa.array([1]), pa.array([2])], ["filename", "x", "x"]), file)
    assert rows_of(file) == ({"filename": "a.mp3", "x": 1, "x (2)": 2},)


def test_a_value_that_is_nested_too_deep_is_left_out(file: Path) -> None:
    array: pa.Array = pa.array([1])
    for _ in range(MAX_DEPTH + 5):
        array = pa.StructArray.from_arrays([array], ["a"])
    assert value_of(file, array) is None


def test_ninety_fields_of_a_thousand_clips_survive(file: Path) -> None:
    columns: dict[str, Any] = {f"field_{i}": [i * n for n in range(1000)] for i in range(90)}
    rows = rows_of(write(file, columns | {"filename": [f"{n}.mp3" for n in range(1000)]}))
    assert rows[999]["field_89"] == 89 * 999
    assert len(rows) == 1000


def test_an_empty_table_has_no_rows(file: Path) -> None:
    assert rows_of(write(file, {"filename": pa.array([], pa.string())})) == ()


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
    """A file of a few kilobytes whose rows all refer to one long value: in memory it would need terabytes."""
    value = pa.array(["x" * (8 << 20)])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 90_000, pa.int32()), value)
    parquet.write_table(pa.table({"filename": column}), path, compression="zstd", store_schema=False)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_bytes(b""), "the file cannot be read: "),
        (lambda path: path.write_text("filename,likes\na.mp3,3\n"), "the file cannot be read: "),
        (_garbage, "cannot be read: "),
        (_cut, "cannot be read: "),
        (_corrupt, "cannot be read: "),
        (_bomb, "cannot be read: "),
        (lambda _: None, "cannot be read: .*No such file"),
        (lambda path: path.mkdir(), "cannot be read: "),
        (lambda path: write(path, {"filename": pa.nulls(MAX_ROWS + 1)}), r"100,001 rows, above the limit of 100,000"),
        (lambda path: write(path, {f"c{n}": [1] for n in range(2001)}), r"2,001 columns, above the limit of 2,000"),
        (lambda path: write(path, {"likes": [1]}), r"no column names the clips .* the columns are likes"),
    ],
)
def test_what_cannot_be_read_is_a_problem_in_one_sentence(file: Path, make: Any, sentence: str) -> None:
    make(file)
    with pytest.raises(MetadataProblemError, match=sentence) as caught:
        read_table(file, "metadata.parquet")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
