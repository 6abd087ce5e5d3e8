"""Writes the figures of the last runs into docs/performance.md, between its two marks.

    PYTHONPATH=src:. python -m bench.page [--results DIR]

Each benchmark that has a file in the folder of results gets a section with its command, machine, date and tables. One
without a file keeps the section that the page has.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from bench.report import RESULTS, ROOT, Table, as_text

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by bench/page.py -->\n", "<!-- end of figures -->\n"
TITLES = {
    "speech": "Speech",
    "verdicts": "Verdicts",
    "worker": "Archive to verdicts",
    "growth": "Growth",
    "gpu": "GPU",
}


class PageError(Exception):
    """The page cannot be written. The message says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (bench/.results)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page (docs/performance.md)")
    arguments = parser.parse_args()
    try:
        written = rewritten(arguments.page.read_text(encoding="utf-8"), results(arguments.results))
    except PageError as error:
        print(error, file=sys.stderr)
        return 1
    arguments.page.write_text(written, encoding="utf-8")
    return 0


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """The figures of each benchmark that has a file, by its name."""
    files = {name: folder / f"{name}.json" for name in TITLES}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


def rewritten(page: str, found: dict[str, dict[str, Any]]) -> str:
    """The page with the sections of these benchmarks in place of its own.

    Raises
    ------
    PageError
        The page lacks the two marks.
    """
    before, begin, rest = page.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end):
        raise PageError(
            f"the page needs the lines {BEGIN.strip()} and {END.strip()}, between which figures are written"
        )
    sections = _sections(old)
    sections.update({TITLES[name]: section(name, figures) for name, figures in found.items()})
    ordered = [sections[title] for title in TITLES.values() if title in sections]
    return before + BEGIN + "\n" + "\n".join(ordered) + "\n" + END + after


def section(name: str, figures: dict[str, Any]) -> str:
    """The heading, what the figures depend on, and the tables of one benchmark."""
    machine = figures["machine"]
    target = {"worker": "archive"}.get(name, name)
    where = figures.get("device", "CPU")
    facts = (
        f"`make bench-{target}`, {machine['date'][:10]}, commit {machine['commit']}: {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']:g} GiB, {where}; load before {machine['load_at_start']:g}."
    )
    tables = [as_text(Table(title, columns, rows)) for title, columns, rows in figures["tables"]]
    return "\n\n".join([f"### {TITLES[name]}", facts, *tables]) + "\n"


def _sections(text: str) -> dict[str, str]:
    """The sections that a page has, by heading."""
    parts = re.split(r"^(?=### )", text, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].removeprefix("### "): part.rstrip("\n") + "\n" for part in parts}


if __name__ == "__main__":
    sys.exit(main())
