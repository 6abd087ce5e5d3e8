"""Which tests go together when several processes share them (`pytest -n`): a file, or a single test.

A file's tests share its database and what it has loaded, so they stay together. The tests of `ALONE` bring a world of
their own and are long: each of them goes to whichever process is free. Long ones begin first, so that no process works
at the end while the others have nothing left to do.
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
    "tests/ra_app/test_browser.py",
    "tests/workers/",
    "tests/cli/",
    "tests/ansible/",
    "tests/recovery/",
    "tests/ra_app/",
    "tests/security/",
    "tests/tls/",
)


def unit(nodeid: str) -> str:
    """The name of what a test belongs to; tests of one unit run in one process, one after the other."""
    if nodeid.startswith(ALONE):
        return nodeid
    return next((name for folder, name in TOGETHER.items() if nodeid.startswith(folder)), nodeid.partition("::")[0])


def rank(nodeid: str) -> int:
    return next((number for number, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))


class Units(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """The units in the order of the collection, each to the next free process."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by default the units with the most tests come first, not the longest

    def _split_scope(self, nodeid: str) -> str:  # what xdist's own distributions override as well
        return unit(nodeid)


def sort(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))
