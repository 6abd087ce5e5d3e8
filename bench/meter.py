"""Measures work: CPU seconds of this process and of the programs that it started, and wall seconds."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Spent:
    """What some work has taken so far."""

    cpu_s: float = 0.0  # all threads of this process, and child processes that have ended
    wall_s: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add what the block takes."""
        cpu, wall = cpu_seconds(), time.perf_counter()
        try:
            yield
        finally:
            self.cpu_s += cpu_seconds() - cpu
            self.wall_s += time.perf_counter() - wall


def cpu_seconds() -> float:
    """CPU seconds, user and system, of this process and of its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def session_cpu_seconds(leader: int) -> float:
    """CPU seconds so far of a program that leads a session: of all its processes, and of children that have ended."""
    ticks = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:  # it ended in between; its parent has its time
            continue
        if int(fields[3]) == leader:
            ticks += sum(map(int, fields[11:15]))  # user and system, its own and its waited children's
    return ticks / os.sysconf("SC_CLK_TCK")
