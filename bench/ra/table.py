"""Keeps the figures of each group of measures, and makes the table of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.ra.figures import Figure
from bench.report import RESULTS, STARTED, Table, as_text, print_table

FILE = RESULTS / "ra-screen.json"
COLUMNS = ("measure", "target", "figure", "met")
BEGIN, END = "<!-- measures: written by bench/ra_screen.py -->\n", "<!-- end of measures -->\n"


def store(name: str, figures: list[Figure], *, load: float, seconds: float) -> None:
    kept = stored()
    kept[name] = {
        "figures": [asdict(figure) for figure in figures],
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": round(load, 1),
        "seconds": round(seconds),
        "machine": STARTED,
    }
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    return found


def print_all(names: Iterable[str]) -> bool:
    """Print the table of what is stored. Return whether every target is met."""
    table, met = _table(names)
    print_table(table)
    print(f"\nfigures: {FILE}")
    return met


def write_page(page: Path, names: Iterable[str]) -> None:
    """Write the table between the two marks of the page.

    Raises
    ------
    SystemExit
        The page lacks the marks.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(
            f"{page} needs the lines {BEGIN.strip()} and {END.strip()}, between which the table is written"
        )
    table, _ = _table(names)
    page.write_text(f"{before}{BEGIN}\n{as_text(table)}\n\n{_facts(names)}\n{END}{after}", encoding="utf-8")


def _table(names: Iterable[str]) -> tuple[Table, bool]:
    kept = stored()
    figures = [Figure(**values) for name in names if name in kept for values in kept[name]["figures"]]
    said = {True: "yes", False: "no", None: "–"}
    rows = [(figure.measure, figure.target, figure.figure, said[figure.met]) for figure in figures]
    return Table("The RA app", COLUMNS, rows), all(figure.met is not False for figure in figures)


def _facts(names: Iterable[str]) -> str:
    taken = [stored()[name] for name in names if name in stored()]
    machine = taken[-1]["machine"]
    loads = [each["load_before"] for each in taken]
    return (
        f"`make ra-measure`, {machine['date'][:10]}, commit {machine['commit']}: {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']:g} GiB, which other programs used at the same time (load "
        f"before the groups of measures {min(loads):g} to {max(loads):g}); Chromium without a window.\n"
    )
