"""What a benchmark prints and writes: tables, and a JSON file with the figures, the machine and the date."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / ".results"
LIBRARIES = ("torch", "transformers", "ctranslate2", "faster-whisper", "whisperx", "numpy", "av")


@dataclass(frozen=True)
class Table:
    """A table in the form of Markdown, so that it can be copied into the documentation."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def print_table(table: Table) -> None:
    print(f"\n{as_text(table)}", flush=True)


def as_text(table: Table) -> str:
    """The title and the rows, columns aligned: the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]

    def line(row: Sequence[str]) -> str:
        padded = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |"

    ruler = [width * "-" for width in widths]
    return "\n".join([f"{table.title}:", "", line(cells[0]), line(ruler), *map(line, cells[1:])])


def number(value: float | None, digits: int = 2) -> str:
    """A figure for a table; a dash if there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """A share in per cent, with one digit; a dash if there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, memory, GPU, versions, commit and date."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "commit": _commit(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }
    for name in LIBRARIES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = None
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


STARTED = machine()  # at the start: a benchmark is itself the load of the machine at its end


def write_json(name: str, figures: Mapping[str, Any], target: Path | None = None) -> Path:
    """Write the figures to `target`, or to bench/.results/NAME.json, with what they depend on; return the path."""
    path = target or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, "command": " ".join(sys.argv), "machine": STARTED, **figures}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nfigures: {path}")
    return path
