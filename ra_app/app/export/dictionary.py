"""What explains an export to whoever reads it later: the data dictionary, and a page about the files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.export.columns import TYPES, Choices, Column
from app.export.formats import FORMATS

HEADER = ("column", "type", "unit", "meaning")


def rows(columns: Sequence[Column]) -> list[tuple[str, str, str, str]]:
    """Return a line for each column: name, type, unit, meaning."""
    return [(column.name, TYPES[column.type], column.unit, column.meaning) for column in columns]


def files(
    columns: Sequence[Column], choices: Choices, about: Mapping[str, Any], formats: Sequence[str]
) -> dict[str, str]:
    """Return the text of each file by its name."""
    listed = rows(columns)
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\r\n").writerows([HEADER, *listed])
    entries = [dict(zip(HEADER, line, strict=True)) for line in listed]
    return {
        "dictionary.csv": table.getvalue(),
        "dictionary.json": json.dumps(entries, ensure_ascii=False, indent=1) + "\n",
        "README.md": _readme(listed, choices, about, formats),
    }


def _readme(listed: Sequence[Sequence[str]], choices: Choices, about: Mapping[str, Any], formats: Sequence[str]) -> str:
    table = "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in listed)
    made = "\n".join(f"- `{FORMATS[name][0]}`: {FORMATS[name][1]}." for name in FORMATS if name in formats)
    return f"""# {about["name"]}

A snapshot of the judgements of these studies: {", ".join(about["studies"])}. It holds what was stored until
{about["at"]}:
{about["rows"]} rows. A row is one judgement as it was submitted. A changed judgement is one more row, so filter by
`is_newest` for one row per coder and clip.

{_choices(choices)}

People stand here by pseudonyms only. Notes and reasons are as they were written; read them before you publish them.
Verdicts are those in force when the snapshot was made.

## Files

{made}
- `codebooks.json`: every version of a codebook that a judgement names.
- `dictionary.csv`, `dictionary.json`: the columns, as in the table below.
- `SHA256SUMS`: `sha256sum -c SHA256SUMS` checks all files.

In the CSV, text that a spreadsheet would run as a formula has an apostrophe before it: text that begins with `=`, `+`,
`-`, `@` (also in full width, and after blanks), a tab, a line end, or an apostrophe. Take one apostrophe away from the
beginning of a text to get what was stored; `'-1` was -1. Numbers are never changed. Lists are JSON text.
Empty cells have no value; `""` is an empty text. The other files hold all text as it is stored.

## Columns

| {" | ".join(HEADER)} |
|---|---|---|---|
{table}
"""


def _choices(choices: Choices) -> str:
    text = "Transcripts are included." if choices.text else "Transcripts are left out."
    names = "File names and archives are included." if choices.names else "File names and archives are left out."
    return f"{text} {names}"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
