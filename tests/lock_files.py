"""Reads the locks: every package with its version and the SHA-256 of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted(path.name for path in (ROOT / "locks").glob("*.txt"))
ENTRY = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][\w.+]*)(?P<hashes>( \\\n    --hash=sha256:[0-9a-f]{64})+)")


@dataclass(frozen=True)
class Pin:
    version: str
    hashes: tuple[str, ...]


def entries(text: str) -> list[str]:
    """The requirements of the lock, one text each, with their continued lines."""
    return [entry for entry in re.split(r"\n(?=\S)", text.strip("\n")) if entry]


def pins(name: str) -> dict[str, Pin]:
    """Every package of `locks/NAME`; raises an error for an entry in another form."""
    found = {}
    for entry in entries((ROOT / "locks" / name).read_text()):
        parts = ENTRY.fullmatch(entry)
        assert parts, f"locks/{name}: {entry}"
        found[parts["name"]] = Pin(parts["version"], tuple(re.findall(r"[0-9a-f]{64}", parts["hashes"])))
    return found
