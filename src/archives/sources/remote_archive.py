"""An archive on the remote host, and its batch id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class RemoteArchive:
    """An archive as the remote host lists it. `name` is for messages; `path` is for requests to the host."""

    name: str
    path: str
    size: int  # bytes
    mtime: int  # whole seconds since 1970

    @property
    def identity(self) -> str:
        """A text that changes when the file is replaced or grows."""
        return f"{self.path}:{self.size}:{self.mtime}"


def batch_id(archive: RemoteArchive, host: str) -> str:
    """`YYYYMMDD-HHMMSS-{6 hex}`. The same archive always gets the same id, so each step can be repeated safely."""
    moment = datetime.fromtimestamp(archive.mtime, UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{digest(f'{host}:{archive.identity}')[:6]}"


def digest(text: str) -> str:
    """SHA-256 of a name, in hexadecimal; the name may hold any bytes."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
