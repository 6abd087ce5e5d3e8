"""A table of references as a CSV file: a line for each clip, with the columns `clip`, `labels` and `reason`.

Labels are codes with a blank, a comma or a semicolon between them. A file is taken as a whole or not at all.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

COLUMNS = ("clip", "labels", "reason")
MOST_LINES = 5000
MOST_PROBLEMS = 20  # that are listed; more would not be read
_NUMBER = re.compile(r"[0-9]{1,18}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Line:
    number: int  # of the file's line, the first is 1
    audio_id: int
    codes: tuple[str, ...]
    reason: str


class TableError(Exception):
    """The file cannot be read as a table of references; the message says where and why."""


def read(content: bytes) -> list[Line]:
    """Read the file.

    Raises
    ------
    TableError
        It is no CSV in UTF-8, a column is missing, or a clip is no number or stands twice; the message names the line.
    """
    try:
        text = content.decode("utf-8-sig")  # spreadsheet programs put a mark at the start
    except UnicodeDecodeError as error:
        raise TableError("The file is not in UTF-8. Save it as “CSV UTF-8”.") from error
    first = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ","
    )
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise TableError(f"Line 1: the column “{missing[0]}” is missing. The first line must be: clip,labels,reason")
    reader.fieldnames = names
    try:
        lines = list(_lines(reader))
    except csv.Error as error:
        raise TableError(f"Line {reader.line_num}: this is not CSV ({error}).") from error
    if not lines:
        raise TableError("The file holds no reference: there is nothing below its first line.")
    return lines


def _lines(reader: csv.DictReader[str]) -> Iterator[Line]:
    seen: dict[int, int] = {}
    for row in reader:
        number, clip = reader.line_num, (row["clip"] or "").strip()
        if not _NUMBER.fullmatch(clip):
            raise TableError(f"Line {number}: the clip is “{clip[:40]}”, but must be the number of a clip.")
        audio_id = int(clip)
        if audio_id in seen:
            raise TableError(f"Line {number}: clip {audio_id} stands in line {seen[audio_id]}, too. Keep one of them.")
        seen[audio_id] = number
        if len(seen) > MOST_LINES:
            raise TableError(f"The file has more than {MOST_LINES} references. Send it in parts.")
        codes = tuple(part for part in re.split(r"[\s,;]+", row["labels"] or "") if part)
        yield Line(number=number, audio_id=audio_id, codes=codes, reason=_CONTROL.sub("", row["reason"] or "").strip())
