"""The report: the scenarios, the number of hosts, and whether anything was lost or doubled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.fleet.world import Figures

HEAD = ("scenario", "hosts", "tasks", "changed", "seconds", "jobs", "lost", "doubled", "result")


def table(lines: Sequence[Figures]) -> str:
    """A table in Markdown."""
    cells = [_cells(line) for line in lines]
    total = Figures(
        "all",
        max((line.hosts for line in lines), default=0),
        *(
            sum(getattr(line, name) for line in lines)
            for name in ("tasks", "changed", "seconds", "jobs", "lost", "doubled")
        ),
    )
    failed = sum(1 for line in lines if line.trouble)
    cells.append([*_cells(total)[:-1], f"{failed} failed" if failed else "passed"])
    rows = [HEAD, tuple("---" if i == 0 else "---:" for i in range(len(HEAD))), *cells]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def write(path: Path, lines: Sequence[Figures]) -> None:
    troubles = "".join(f"\n**{line.name}**\n\n```\n{line.trouble}\n```\n" for line in lines if line.trouble)
    path.write_text(table(lines) + troubles)


def _cells(line: Figures) -> list[str]:
    counts = [line.hosts, line.tasks, line.changed, round(line.seconds), line.jobs, line.lost, line.doubled]
    return [line.name, *(str(count) for count in counts), "failed" if line.trouble else "passed"]
