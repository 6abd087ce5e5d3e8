"""Distributes tests over several processes (`pytest -n`): by file, or one by one.

The tests of a file share its database and its models, so one process runs them. The tests of `ALONE` are long and
start their own services, so each goes to any free process. Long tests begin first, so that all processes end at about
the same time.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ALONE = (
    "tests/reliability/",
    "tests/cli/test_while_workers_work.py",
    "tests/local/test_demo.py",
    "tests/workers/test_gpu_worker.py",
    "tests/workers/test_out_of_memory.py",
)
# Folders whose tests load the same models, or the same libraries that take long to import: one process does it for all.
TOGETHER = {
    "tests/transcription/": "models",
    "tests/demo_classifier/": "models",
    "tests/moderation/": "models",
}
# What takes longest, longest first; all else follows in the order in which it was found.
FIRST = (
    *TOGETHER,
    *ALONE,
    "tests/ra_app/test_screen",
    "tests/ra_app/test_browser.py",
    "tests/test_supply_chain.py",
    "tests/workers/",
    "tests/cli/",
    "tests/ansible/",
    "tests/recovery/",
    "tests/ra_app/",
    "tests/security/",
    "tests/tls/",
    "tests/archives/",
    "tests/media/",
    "tests/models/",
)


def unit(nodeid: str) -> str:
    """The name of a test's unit. One process runs the tests of a unit, one after the other."""
    if nodeid.startswith(ALONE):
        return nodeid
    return next((name for folder, name in TOGETHER.items() if nodeid.startswith(folder)), nodeid.partition("::")[0])


def rank(nodeid: str) -> int:
    return next((number for number, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))


class Units(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives the units to the processes: in the order of the collection, each to the next free process."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by default the units with the most tests come first, not the longest

    def _split_scope(self, nodeid: str) -> str:  # what xdist's own distributions override as well
        return unit(nodeid)


def sort(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))
