"""Tar archives written byte by byte, with members that no normal program writes."""

from __future__ import annotations

import tarfile
from typing import Self

BLOCK = 512


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


class Tar:
    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(
        self,
        name: str | bytes,
        content: bytes = b"",
        *,
        type_: bytes = tarfile.REGTYPE,
        link: str = "",
        size: int | None = None,
        device: tuple[int, int] = (0, 0),
        pax: dict[str, str] | None = None,
    ) -> Self:
        """Add a member. `size` is the length in its header, if it must be a false one; `pax` adds pax records."""
        info = tarfile.TarInfo(name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
        info.type, info.linkname = type_, link
        info.devmajor, info.devminor = device
        info.size = len(content) if size is None else size
        info.pax_headers = pax or {}
        if pax is None:
            header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        else:
            header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        return self.raw(header + _padded(content))

    def header(self, type_: bytes, content: bytes) -> Self:
        """A header that belongs to the next member, such as pax records, with any bytes in it."""
        info = tarfile.TarInfo("header")
        info.type, info.size = type_, len(content)
        return self.raw(info.tobuf(tarfile.USTAR_FORMAT) + _padded(content))

    def raw(self, data: bytes) -> Self:
        self._parts.append(data)
        return self

    def unclosed(self) -> bytes:
        """Return the archive without its end marker."""
        return b"".join(self._parts)

    def close(self) -> bytes:
        return self.unclosed() + bytes(2 * BLOCK)
