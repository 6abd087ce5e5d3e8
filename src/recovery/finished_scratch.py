"""Scratch directories whose batches are finished: a retry left them, or a host that came back after it counted as lost.

The unpack worker removes them now and then; `audio-pipeline expire` lists and removes them on demand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from db import Database
from jobs.batches import Batches
from scratch import directories


@dataclass(frozen=True)
class FinishedScratch:
    """The finished batches' directories under `root`, on this host."""

    root: Path
    batches: Batches
    db: Database

    def in_use(self, batch_id: str) -> bool:
        """Whether the batch is under way, or was unpacked and is neither complete nor cancelled."""
        return self.batches.under_way(batch_id) or self.db.batch_finished(batch_id) is False

    def leftovers(self) -> list[str]:
        """Ids of the finished batches whose directory is still there."""
        return directories.leftovers(self.root, self.in_use)

    def sweep(self, on_progress: Callable[[], None] = lambda: None) -> list[str]:
        """Remove those directories -> the ids of their batches."""
        return directories.sweep(self.root, self.in_use, on_progress)
