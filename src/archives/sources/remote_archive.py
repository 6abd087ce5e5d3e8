"""An archive on the remote host, and the batch id that belongs to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class RemoteArchive:
    """An archive as the remote host lists it; `name` is for people, `path` is what the host understands."""

    name: str
    path: str
    size: int  # bytes
    mtime: int  # whole seconds since 1970

    @property
    def identity(self) -> str:
        """Differs when the file was replaced or has grown."""
        return f"{self.path}:{self.size}:{self.mtime}"


def batch_id(archive: RemoteArchive, host: str) -> str:
    """`YYYYMMDD-HHMMSS-{6 hex}`: the same archive always gets the same id, so no step is harmful when repeated."""
    moment = datetime.fromtimestamp(archive.mtime, UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{digest(f'{host}:{archive.identity}')[:6]}"


def digest(text: str) -> str:
    """SHA-256 in hexadecimal, of a name that may hold any bytes."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
