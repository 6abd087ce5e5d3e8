"""Files of examples: texts, and whether a person says that they violate a policy.

A file is JSONL, or CSV when its name ends in `.csv`. Each line has a `text` and one of:

- `label`: 0 or 1, about the policy in question;
- `violates`: true or false, about the policy in question;
- `labels`: policy ids with 0 or 1 each, for example `{"hate-speech": 1, "violent-threats": 0}` (JSONL only).

Other fields are notes for people.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from errors import ExamplesError

_ANSWERS = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True)
class Example:
    text: str
    violates: bool
    line: int  # of the file


def read_examples(path: Path, policy_id: str) -> list[Example]:
    """Read the examples for one policy.

    Raises
    ------
    ExamplesError
        The file cannot be read, holds no example, or a line is wrong or contradicts another; the message gives file,
        line and reason.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheet programs put a mark at the start of a CSV
    except OSError as error:
        raise ExamplesError(f"the examples {path} cannot be read: {error.strerror}; give another --examples") from error
    except UnicodeDecodeError as error:
        raise ExamplesError(f"{path}: the examples are not UTF-8; save the file as UTF-8") from error
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(path, text)
    examples = [_example(path, line, row, policy_id) for line, row in rows]
    if not examples:
        raise ExamplesError(f"{path} holds no example; each line needs a text and a label")
    _refuse_contradictions(path, examples)
    return examples


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            _fail(path, number, f"the line is not JSON ({error})")
        if not isinstance(row, dict):
            _fail(path, number, 'the line must be an object like {"text": "...", "label": 1}')
        yield number, row


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not {"text", "label"} <= set(reader.fieldnames or ()):
            _fail(path, 1, "the first line must name the columns text and label, with a comma between them")
        before = reader.line_num
        for row in reader:
            yield before + 1, row
            before = reader.line_num
    except csv.Error as error:
        _fail(path, reader.line_num, f"the line is not CSV ({error})")


def _example(path: Path, line: int, row: Mapping[str, Any], policy_id: str) -> Example:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        _fail(path, line, "the example has no text")
    answer = _answer(path, line, row, policy_id)
    violates = _ANSWERS.get(answer.strip().lower() if isinstance(answer, str) else answer)
    if violates is None:
        _fail(path, line, f"the label is {answer!r}, but must be 0 (does not violate {policy_id}) or 1 (violates it)")
    return Example(text, violates, line)


def _answer(path: Path, line: int, row: Mapping[str, Any], policy_id: str) -> Any:
    if "labels" in row:
        labels = row["labels"]
        if not isinstance(labels, dict) or policy_id not in labels:
            _fail(path, line, f"labels must hold 0 or 1 for {policy_id}")
        answer = labels[policy_id]
    elif "label" in row or "violates" in row:
        answer = row.get("label", row.get("violates"))
    else:
        _fail(path, line, "the example has no label; add label, with 0 or 1")
    return answer if isinstance(answer, str | int | float) else repr(answer)


def _refuse_contradictions(path: Path, examples: list[Example]) -> None:
    seen: dict[str, Example] = {}
    for example in examples:
        first = seen.setdefault(" ".join(example.text.split()), example)
        if first.violates != example.violates:
            _fail(path, example.line, f"the text is that of line {first.line}, but the label is another")


def _fail(path: Path, line: int, reason: str) -> Never:
    raise ExamplesError(f"{path}:{line}: {reason}")
