"""Decompressing an untrusted file: gzip, bzip2, xz and zstd behind one face, with the same bounds and the same end.

A file may consist of several streams, one behind the other, as parallel compressors write them; zeros may stand between
and behind them. Whatever else stands behind a whole stream is not decompressed but counted (`trailing`): whether it
matters, the caller knows. The bounds: memory for a decoder's window, and input that yields next to no output, which
costs time without ever reaching a limit on size.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import zstandard

from errors import ArchiveError, OperatorError

CHUNK = 1 << 20  # bytes read from the file at a time
MAX_DECODER_BYTES = 1 << 27  # memory for a decoder's window: 128 MiB; `xz -9` takes 65 MiB
# Compressors hardly ever make data longer: by 5 bytes in 64 KiB, by 1 % for bzip2 on noise. The rest is for headers and
# indexes, which yield nothing. Empty streams cost up to a second for each MiB, so this ends them within seconds.
SPARE_INPUT_BYTES = 4 << 20
MAX_INPUT_PER_OUTPUT = 1.125

_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes((0x50 + number,)) + b"\x2a\x4d\x18" for number in range(16))  # parallel zstd begins with one
_LONGEST_MAGIC = 6
_NOT_ZERO = re.compile(rb"[^\0]")


class DamagedError(Exception):
    """The archive breaks off or contradicts itself; the message says how, the caller knows where."""


class _Decoder(Protocol):
    """One stream, as bz2 and lzma decode it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Zstd:
    """Its output cannot be bounded, only its input: see `piece` of its format."""

    needs_input = True

    def __init__(self, frames: zstandard.ZstdDecompressor) -> None:
        self._inner = frames.decompressobj()

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, _: int, /) -> bytes:
        return self._inner.decompress(data) if data else b""


def _zstd_decoders() -> Callable[[], _Decoder]:
    frames = zstandard.ZstdDecompressor(
        max_window_size=MAX_DECODER_BYTES
    )  # to make one takes longer than a small frame
    return lambda: _Zstd(frames)


@dataclass(frozen=True)
class Format:
    name: str
    magics: tuple[bytes, ...]  # what a stream begins with
    decoders: Callable[[], Callable[[], _Decoder]]  # -> for one file: what makes the decoder of each of its streams
    piece: int = 1 << 16  # bytes given to the decoder at a time; what an ended stream leaves of them is copied


FORMATS = (
    Format("gzip", (b"\x1f\x8b",), lambda: _Gzip),
    Format("xz", (b"\xfd7zXZ\0",), lambda: lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_DECODER_BYTES)),
    Format("bzip2", (b"BZh",), lambda: bz2.BZ2Decompressor),
    Format(
        "zstd", (_ZSTD, *_SKIPPABLE), _zstd_decoders, piece=1 << 12
    ),  # a block of 4 bytes may become 128 KiB: 128 MiB at most
)


def format_of(magic: bytes) -> Format | None:
    """How a file that begins so is compressed; None for not at all."""
    return next((kind for kind in FORMATS if magic.startswith(kind.magics)), None)


class Decompressed:
    """What a compressed file holds, read from front to back. `on_progress` is called for each chunk of the file.

    Raises
    ------
    DamagedError
        The data are cut or corrupt.
    ArchiveError
        Too much input yields too little output.
    OperatorError
        The disk cannot be read.
    """

    def __init__(self, file: BinaryIO, kind: Format, name: str, on_progress: Callable[[], None]) -> None:
        self._file, self._kind, self._name, self._on_progress = file, kind, name, on_progress
        self._fresh = kind.decoders()
        self._decoder = self._fresh()
        self._chunk, self._at = b"", 0  # of the file, and how much of it the decoder was given
        self._output = memoryview(b"")
        self._given = self._yielded = 0
        self._ended = False
        self.trailing = 0  # bytes other than zero behind the last stream

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        while not self._output:
            if self._ended:
                return b""
            if self._decoder.eof:
                self._next_stream()
            else:
                self._decode()
        data, self._output = bytes(self._output[:size]), self._output[size:]
        return data

    def _decode(self) -> None:
        piece = b""
        if self._decoder.needs_input:
            if self._at == len(self._chunk):
                self._chunk, self._at = self._read_file(), 0
            piece = self._chunk[self._at : self._at + self._kind.piece]
            self._at += len(piece)
        try:
            output = self._decoder.decompress(piece, CHUNK)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, ValueError, EOFError) as error:
            raise DamagedError(f"the {self._kind.name} data are corrupt ({error})") from error
        if not (piece or output or self._decoder.eof):
            raise DamagedError(f"the {self._kind.name} data break off (a cut transfer?)")
        self._output = memoryview(output)
        self._yielded += len(output)
        self._given += len(piece)
        if self._given > SPARE_INPUT_BYTES + MAX_INPUT_PER_OUTPUT * self._yielded:
            raise ArchiveError(
                f"{self._name}: {self._given:,} bytes of {self._kind.name} data hold only {self._yielded:,} bytes; no "
                "compressor writes that: the file is made to cost time"
            )

    def _next_stream(self) -> None:
        """Begin the stream behind the one that has ended, or find the end."""
        unused = self._decoder.unused_data
        self._given -= len(unused)
        self._at -= len(unused)  # it is the end of the last piece, and a piece never spans two chunks
        while (found := _NOT_ZERO.search(self._chunk, self._at)) is None:
            self._chunk, self._at = self._read_file(), 0
            if not self._chunk:
                self._ended = True
                return
        self._at = found.start()
        if len(self._chunk) - self._at < _LONGEST_MAGIC:
            self._chunk, self._at = self._chunk[self._at :] + self._read_file(), 0
        if self._chunk.startswith(self._kind.magics, self._at):
            self._decoder = self._fresh()
            return
        self._ended = True
        data = self._chunk[self._at :]
        while data:
            self.trailing += len(data) - data.count(0)
            data = self._read_file()

    def _read_file(self) -> bytes:
        self._on_progress()
        return read_file(self._file, self._name, CHUNK)


class Plain:
    """A file that is not compressed, with the same face."""

    trailing = 0

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name

    def read(self, size: int, /) -> bytes:
        return read_file(self._file, self._name, size)


def read_file(file: BinaryIO, name: str, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise OperatorError(f"the archive {name} cannot be read: {error.strerror}") from error
