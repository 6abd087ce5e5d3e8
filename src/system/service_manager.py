"""Messages to systemd: the worker is ready, its state, and progress for the watchdog.

Each message is one datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)). Without it nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable

FEED_S = 1.0  # at most one datagram a second, however often there is progress
START_MORE_S = 120  # more time to start, requested at each step: longer than any single step takes


def notify(message: str) -> None:
    """Send `READY=1`, `STATUS=...` and the like. Ignores errors, because they must not stop a worker."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(" ".join(message.split()).encode(), address)


class Watchdog:
    """Each step of real work feeds it. A worker that hangs feeds nothing, and systemd restarts it (WatchdogSec=).

    A worker that does several things at once says by `hangs` that one of them hangs; then no other feeds it.
    """

    def __init__(self, hangs: Callable[[], bool] = lambda: False) -> None:
        self._hangs = hangs
        self._fed = 0.0
        self.starting = True  # until the worker is ready; progress then also extends TimeoutStartSec=

    def feed(self) -> None:
        now = time.monotonic()
        if now - self._fed >= FEED_S and not self._hangs():
            self._fed = now
            notify("WATCHDOG=1")
            if self.starting:
                notify(f"EXTEND_TIMEOUT_USEC={START_MORE_S * 1_000_000}")
