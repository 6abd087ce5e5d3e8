"""The service manager's end of the notification socket (sd_notify(3)): a worker's messages to systemd, in order."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path
from typing import Self

from tests.workers.processes import wait_until


class NotifySocket:
    """Reads messages at once, as systemd does, because a sender blocks when nobody reads."""

    def __init__(self) -> None:
        self._messages: list[str] = []
        # Not in pytest's folder: the path of a socket may have 107 bytes at most.
        self._folder = tempfile.TemporaryDirectory(prefix="notify-")
        self.address = str(Path(self._folder.name) / "socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._reader.join()
        self._socket.close()
        self._folder.cleanup()

    @property
    def messages(self) -> list[str]:
        """All messages until now, the oldest first."""
        return list(self._messages)

    def kinds(self) -> set[str]:
        """The names of the messages until now, such as `READY` and `STATUS`, without values."""
        return {message.partition("=")[0] for message in self.messages}

    def since(self, beginning: str) -> list[str]:
        """The messages after the last one that begins with this text; all messages when there is none."""
        messages = self.messages
        marks = [number for number, message in enumerate(messages) if message.startswith(beginning)]
        return messages[marks[-1] + 1 :] if marks else messages

    def wait_for(self, beginning: str) -> None:
        wait_until(lambda: any(message.startswith(beginning) for message in self.messages), f"{beginning!r} to be said")

    def _read(self) -> None:
        while received := self._socket.recv(65536):
            self._messages.append(received.decode())
