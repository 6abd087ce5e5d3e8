"""Measures work: CPU seconds of this process and of the programs that it started, and wall seconds."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


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
