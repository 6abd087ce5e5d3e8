"""Reads the canonical file of a snapshot row by row, and writes JSON documents that are too large for memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def read(source: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(source, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def write_list(target: Path, begin: str, items: Iterable[Any], end: str) -> None:
    """Write a document whose list has one item per line. `begin` ends with the list's bracket, and `end` begins so."""
    with target.open("w", encoding="utf-8", newline="\n") as file:
        file.write(begin)
        for number, item in enumerate(items):
            file.write((",\n" if number else "\n") + json.dumps(item, ensure_ascii=False, separators=(",", ":")))
        file.write(f"\n{end}\n")
