"""Read a tar archive as a stream of headers and data, and check each size that the archive claims against a limit.

`extract.py` is the only caller; it decides which members are kept. There are three reasons not to use Python's tarfile.
It reads a pax header of any claimed length into memory. It treats a damaged header between two members as the end of
the archive, so half an archive looks whole. And Python versions that hosts still run (3.11.7) need hours for a pax
header full of digits (CVE-2024-6232). Names are bytes here; the caller decodes and checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from archives.decompression import CHUNK, DamagedError, Decompressed, Plain, format_of
from errors import ArchiveError, OperatorError

BLOCK = 512  # bytes; tar's unit
MAX_HEADER_BYTES = 1 << 20  # long name and pax records of one member; names are below 4 KiB, attributes below 64 KiB
MAX_HEADERS = 8  # headers before one member: long name, long link, pax and a few more

Kind = Literal["file", "directory", "symbolic link", "hard link", "device", "FIFO", "sparse file", "special entry"]
_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"5": "directory",
    b"6": "FIFO",
    b"S": "sparse file",
}
_WITHOUT_DATA = {"hard link", "symbolic link", "device", "directory", "FIFO"}  # the size in their header is ignored
_FOREIGN = {b"PK\x03\x04": "a zip", b"7z\xbc\xaf\x27\x1c": "a 7z", b"Rar!": "a rar"}


class NotTarError(DamagedError):
    """The file does not begin with a tar header."""


@dataclass(frozen=True)
class Entry:
    """One member, as its header describes it. `size` counts the bytes of data (0 for links and directories)."""

    raw_name: bytes
    kind: Kind
    size: int


class TarStream:
    """An archive that is read once, from start to end.

    `max_unpacked` limits the bytes that decompression may yield. `entries()` yields one member after the other;
    `read()` returns the data of the current member, and data that are not read are skipped. Several archives in one
    file (`cat a.tar b.tar`) are read as one. Other data after the end marker are counted and not used. `on_progress` is
    called for every chunk that is read or unpacked and for every member; its exceptions are not caught.

    Raises
    ------
    DamagedError
        The archive is cut off, corrupt, or not a tar.
    ArchiveError
        The data are larger than `max_unpacked`.
    OperatorError
        The disk cannot be read.
    """

    def __init__(self, path: Path, max_unpacked: int, on_progress: Callable[[], None] = lambda: None) -> None:
        self.name, self._max_unpacked, self._unpacked, self._left = path.name, max_unpacked, 0, 0
        self._on_progress, self._next_report = on_progress, 0
        self.ignored_tail = 0  # bytes other than zero after the end marker
        try:
            self._file = path.open("rb")
            self.size = path.stat().st_size
            self._magic = self._file.read(8)
            self._file.seek(0)
        except OSError as error:
            raise OperatorError(f"the archive {path} cannot be read: {error.strerror}") from error
        kind = format_of(self._magic)
        self.compression = kind.name if kind else ""
        self._source = Decompressed(self._file, kind, self.name, on_progress) if kind else Plain(self._file, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def entries(self) -> Iterator[Entry]:
        first = True
        while True:
            header = self._next_header(first=first) or self._header_after_end_marker()
            if header is None:
                return
            first = False
            self._on_progress()
            entry = self._entry(header)
            padding = -entry.size % BLOCK
            self._left = entry.size
            yield entry
            while self.read(CHUNK):
                pass
            self._exactly(padding)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of the current member; b"" at its end."""
        wanted = min(size, self._left)
        data = self._some(wanted) if wanted else b""
        if wanted and not data:
            raise DamagedError(self._too_short("inside this member"))
        self._left -= len(data)
        return data

    def _some(self, size: int) -> bytes:
        data = self._source.read(size)
        self._unpacked += len(data)
        if self._unpacked > self._max_unpacked:
            raise ArchiveError(
                f"{self.name} ({self.size:,} bytes) unpacks to more than {self._max_unpacked:,} bytes, the limit of an "
                "archive of its size: it looks like a decompression bomb"
            )
        if self._unpacked >= self._next_report:
            self._next_report = self._unpacked + CHUNK
            self._on_progress()
        return data

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            data = self._some(size)
            if not data:
                raise DamagedError(self._too_short())
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def _next_header(self, *, first: bool = False) -> bytes | None:
        """The next header block with a correct checksum; None at the end marker."""
        try:
            block = self._exactly(BLOCK)
        except DamagedError as error:
            if first and not self.compression:  # compressed data that end early are a damaged archive
                raise self._not_tar() from error
            raise
        if not block.strip(b"\0"):
            return None
        if not _is_header(block):
            raise self._not_tar() if first else DamagedError("a header's checksum is wrong")
        return block

    def _header_after_end_marker(self) -> bytes | None:
        """The first header of another archive after an end marker, or None when there is no other archive.

        Reads all remaining data, because compressed data are known to be complete only at their end.
        """
        block = self._block()
        while len(block) == BLOCK and not block.strip(b"\0"):
            block = self._block()
        if len(block) == BLOCK and _is_header(block):
            return block
        while block:
            self.ignored_tail += len(block) - block.count(0)
            block = self._some(CHUNK)
        self.ignored_tail += self._source.trailing
        return None

    def _block(self) -> bytes:
        """One block, or a shorter one at the end of the data."""
        block = data = self._some(BLOCK)
        while data and len(block) < BLOCK:
            data = self._some(BLOCK - len(block))
            block += data
        return block

    def _too_short(self, where: str = "before the end of the archive") -> str:
        if self._source.trailing:
            return (
                f"the {self.compression} data end {where}, and {self._source.trailing:,} bytes follow that are not "
                f"{self.compression} data"
            )
        return f"the data end {where} (was the transfer cut off?)"

    def _not_tar(self) -> NotTarError:
        foreign = next((name for magic, name in _FOREIGN.items() if self._magic.startswith(magic)), None)
        if not self._magic:
            return NotTarError("it is empty")
        if self.compression:
            return NotTarError(f"the {self.compression} data inside do not begin with a tar header")
        return NotTarError(f"it is {foreign} file" if foreign else "it does not begin with a tar header")

    def _entry(self, header: bytes) -> Entry:
        """Read the headers that belong to one member: long names and pax records come before its own."""
        long_name: bytes | None = None
        records: dict[bytes, bytes] = {}
        budget = MAX_HEADER_BYTES
        for _ in range(MAX_HEADERS):
            type_ = header[156:157]
            if type_ not in {b"L", b"K", b"x", b"X", b"g"}:
                return self._own_header(header, long_name, records)
            size = _size(header)
            budget -= size
            if budget < 0:
                raise DamagedError(f"a header claims {size:,} bytes, above the limit of {MAX_HEADER_BYTES:,}")
            data = self._exactly(size)
            self._exactly(-size % BLOCK)
            if type_ == b"L":
                long_name = data.split(b"\0", 1)[0]
            elif type_ in {b"x", b"X"}:  # a global header ("g") holds no data of a single member
                records |= _pax_records(data)
            following = self._next_header()
            if following is None:
                raise DamagedError("the end marker follows a long name or pax header, but a member must follow")
            header = following
        raise DamagedError(f"one member has more than {MAX_HEADERS} headers")

    def _own_header(self, header: bytes, long_name: bytes | None, records: dict[bytes, bytes]) -> Entry:
        name = header[:100].split(b"\0", 1)[0]
        prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
        name = b"/".join(part for part in (prefix, name) if part)
        name = records.get(b"path", long_name if long_name is not None else name)
        kind = _KINDS.get(header[156:157], "special entry")
        size = _decimal(records[b"size"]) if b"size" in records else _size(header)
        if kind == "sparse file":
            self._pass_sparse_map(header)
        elif any(key.startswith(b"GNU.sparse.") for key in records):
            kind = "sparse file"
        elif kind == "file" and name.endswith(b"/"):  # archives older than POSIX mark a directory this way
            kind = "directory"
        return Entry(name, kind, 0 if kind in _WITHOUT_DATA else size)

    def _pass_sparse_map(self, header: bytes) -> None:
        more = header[482] != 0
        for _ in range(MAX_HEADER_BYTES // BLOCK):
            if not more:
                return
            more = self._exactly(BLOCK)[504] != 0
        raise DamagedError("the map of a sparse file has no end")


def _is_header(block: bytes) -> bool:
    """Whether the block's checksum is right: the sum of unsigned bytes, or of signed bytes, as SunOS wrote it."""
    try:
        stated = _number(block[148:156])
    except DamagedError:
        return False
    checked = block[:148] + b" " * 8 + block[156:]
    return stated in {sum(checked), sum(checked) - 256 * sum(byte > 127 for byte in checked)}


def _number(field: bytes) -> int:
    """A number in a header: octal text, or binary when its first bit is set."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise DamagedError("a header holds a number that is negative or too large")
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0", 1)[0].strip()
    if text.strip(b"01234567"):
        raise DamagedError("a number in a header is malformed")
    return int(text, 8) if text else 0


def _size(header: bytes) -> int:
    return _number(header[124:136])


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise DamagedError("a number in a pax header is malformed")
    return int(value)


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    r"""Parse records of the form `LENGTH KEY=VALUE\n`; LENGTH counts the whole record."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data) and data[position] != 0:
        space = data.find(b" ", position, position + 12)
        length = _decimal(data[position:space]) if space > position else 0  # 0 is refused below, or the loop never ends
        record = data[space + 1 : position + length]
        key, equals, value = record.partition(b"=")
        if not length or not equals or not value.endswith(b"\n") or position + length > len(data):
            raise DamagedError("a pax header is malformed")
        records[key] = value[:-1]
        position += length
    return records
