"""metadata.csv and metadata.jsonl as they are found: encodings, separators, quotes, bad lines."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archives.clip_metadata import MetadataProblemError, read_table
from archives.metadata_matching import Table
from archives.metadata_reader import MAX_RECORD_LINES, MAX_VALUE_CHARS


def read(folder: Path, name: str, data: bytes | str) -> Table:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_table(path, name)[0]


def rows(folder: Path, name: str, data: bytes | str) -> list[dict[str, Any]]:
    table = read(folder, name, data)
    assert table.bad == 0
    return [dict(row) for row in table.rows]


ZOE = {"filename": "Zoë.mp3", "text": "a, b; ü"}


ENCODINGS = ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
SEPARATORS = [",", ";", "\t", "|"]
ENDS = ["\n", "\r\n", "\r"]
# Each file costs a process, so the gate takes each encoding once, with every separator and end among them.
IN_USE = list(zip(ENCODINGS, cycle(SEPARATORS), cycle(ENDS), strict=False))


@pytest.mark.parametrize(
    ("encoding", "separator", "end"),
    [
        pytest.param(*case, marks=[] if case in IN_USE else pytest.mark.thorough)
        for case in product(ENCODINGS, SEPARATORS, ENDS)
    ],
)
def test_csv_is_read_in_the_encodings_and_with_the_separators_in_use(
    tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    lines = ["filename" + separator + "text", f'Zoë.mp3{separator}"a, b; ü"', "", ""]
    assert rows(tmp_path, "metadata.csv", end.join(lines).encode(encoding)) == [ZOE]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('id,text\n1,"two\nlines"\n2,x\n', [{"id": "1", "text": "two\nlines"}, {"id": "2", "text": "x"}]),
        ('id,text\n1,"say ""hi"""\n', [{"id": "1", "text": 'say "hi"'}]),
        ("id,text\n\n   \n1,x\n,\n", [{"id": "1", "text": "x"}]),
        ("id,text,more\n1,x\n", [{"id": "1", "text": "x", "more": None}]),
        ("id,text\n1,x,,\n", [{"id": "1", "text": "x"}]),
        ("sep=;\nid;text\n1;a,b\n", [{"id": "1", "text": "a,b"}]),
        ("id\n1\n2\n", [{"id": "1"}, {"id": "2"}]),
        (",id,\n0,1,x\n", [{"column 1": "0", "id": "1", "column 3": "x"}]),
        ("id,x,x\n1,2,3\n", [{"id": "1", "x": "2", "x (2)": "3"}]),
        ("id,text\n1,a\0b\n", [{"id": "1", "text": "ab"}]),
        ("id,text\n1,a\u2028b\n", [{"id": "1", "text": "a\u2028b"}]),
        ("id,text", []),
        ("", []),
    ],
)
def test_csv_as_people_write_it(tmp_path: Path, text: str, expected: list[dict[str, Any]]) -> None:
    assert rows(tmp_path, "metadata.csv", text) == expected


@pytest.mark.parametrize(
    "line", ["2,shifted,by,commas", '2,"never closed', '2,"say "hi", he says, "so"'], ids=["wide", "open", "quotes"]
)
def test_a_bad_line_of_csv_costs_itself_and_is_counted(tmp_path: Path, line: str) -> None:
    text = f"id,text\n1,x\n{line}\n" + "".join(f"{number},y\n" for number in range(3, MAX_RECORD_LINES + 50))
    table = read(tmp_path, "metadata.csv", text)
    assert [row["id"] for row in table.rows if row["id"] != "2"] == ["1", *map(str, range(3, MAX_RECORD_LINES + 50))]
    assert (table.bad, table.first_bad) in {(1, "line 3"), (0, "")}
    assert table.bad or table.rows[1]["text"].strip('"') == "never closed"


def test_quotes_inside_of_quotes_cost_nothing_else(tmp_path: Path) -> None:
    assert [row["id"] for row in rows(tmp_path, "metadata.csv", 'id,text\n1,"say "hi" to"\n2,x\n')] == ["1", "2"]


def test_a_huge_field_of_csv_is_left_out_and_its_row_stays(tmp_path: Path) -> None:
    text = f"id,text\n1,{'x' * (MAX_VALUE_CHARS + 1)}\n2,y\n"
    assert rows(tmp_path, "metadata.csv", text) == [{"id": "1", "text": None}, {"id": "2", "text": "y"}]


def test_a_few_bad_bytes_do_not_change_the_encoding_of_the_rest(tmp_path: Path) -> None:
    data = "id,text\n1,Zoë 日本 ü\n2,".encode() + b"caf\xe9\n"
    assert [row["text"] for row in rows(tmp_path, "metadata.csv", data)] == ["Zoë 日本 ü", "caf\ufffd"]


ONE, TWO = {"id": "7301", "n": {"likes": 2**64}}, {"id": "7302", "tags": ["ü"]}


FORMS = {
    "lines": f"{json.dumps(ONE)}\n{json.dumps(TWO)}\n",
    "BOM and CRLF": f"\ufeff{json.dumps(ONE)}\r\n\r\n{json.dumps(TWO)}",
    "array": json.dumps([ONE, TWO]),
    "indented array": json.dumps([ONE, TWO], indent=2),
    "trailing comma": f"[\n{json.dumps(ONE)},\n{json.dumps(TWO)},\n]",
    "wrapped": json.dumps({"cursor": 1, "videos": [ONE, TWO]}),
    "by id": json.dumps({"7301": {"n": {"likes": 2**64}}, "7302": {"tags": ["ü"]}}, indent=1),
}
JSON_NAMES = ["metadata.jsonl", "metadata.ndjson", "metadata.json"]
FOUND = list(zip(cycle(JSON_NAMES), FORMS, strict=False))


@pytest.mark.parametrize(
    ("name", "form"),
    [pytest.param(*case, marks=[] if case in FOUND else pytest.mark.thorough) for case in product(JSON_NAMES, FORMS)],
)
def test_json_is_read_as_lines_an_array_or_wrapped(tmp_path: Path, name: str, form: str) -> None:
    assert rows(tmp_path, name, FORMS[form]) == [ONE, TWO]


@pytest.mark.parametrize(
    "line",
    ["{", "null", "[1]", '{"id": "2"} {"id": "3"}', "[" * 100_000, "1" * 5_000, '{"id": ' + "1" * 5_000 + "}", "\x00"],
    ids=["cut", "null", "array", "two", "deep", "number", "long number", "NUL"],
)
def test_a_bad_line_of_json_costs_itself_and_is_counted(tmp_path: Path, line: str) -> None:
    table = read(tmp_path, "metadata.jsonl", f"{json.dumps(ONE)}\n{line}\n{json.dumps(TWO)}\n")
    assert list(table.rows) == [ONE, TWO]
    assert (table.bad, table.first_bad) == ((0, "") if line == "\x00" else (1, "line 2"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (r'"a\u0000b"', "ab"),
        (r'"x\ud800y"', "x\ufffdy"),
        (r'"\ud83c\udfb5"', "🎵"),
        (r'{"\ud800\u0000": NaN}', {"\ufffd": None}),
        ("[1e999, -Infinity]", [None, None]),
        ("[" * 60 + "]" * 60, None),
        ("18446744073709551616", 2**64),
    ],
)
def test_values_of_json_become_what_the_database_takes(tmp_path: Path, value: str, expected: Any) -> None:
    assert rows(tmp_path, "metadata.jsonl", f'{{"id": "1", "v": {value}}}\n')[0]["v"] == expected


def test_two_keys_that_differ_in_nul_only_are_both_kept(tmp_path: Path) -> None:
    assert rows(tmp_path, "metadata.jsonl", r'{"id": "1", "a": 1, "a\u0000": 2}') == [{"id": "1", "a": 1, "a (2)": 2}]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.tsv", "metadata.jsonl"])
def test_a_text_without_a_column_that_names_clips_is_a_problem(tmp_path: Path, name: str) -> None:
    text = '{"likes": 1}\n' if name.endswith("jsonl") else "likes,text\n1,x\n"
    with pytest.raises(MetadataProblemError, match=r"no column names the clips .* the columns are likes"):
        read(tmp_path, name, text)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300)
    | st.text(st.sampled_from("\",;\t\n\r'=[]{}:0aü\0"), max_size=300).map(lambda text: ("id," + text).encode()),
    name=st.sampled_from(["metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet"]),
)
@pytest.mark.thorough
def test_no_bytes_raise_anything_but_a_metadata_problem(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    found: tuple[Any, ...] = ()
    with suppress(MetadataProblemError):
        found = read(tmp_path_factory.mktemp("fuzz"), name, data).rows
    assert "\\u0000" not in json.dumps(found, allow_nan=False)
