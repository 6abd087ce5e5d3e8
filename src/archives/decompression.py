"""Decompress an untrusted file: gzip, bzip2, xz and zstd with one interface and the same limits.

A file may hold several streams, one after the other, as parallel compressors write them. Zero bytes may stand between
and after the streams. Other bytes after a complete stream are counted in `trailing` and not decompressed; the caller
decides whether they matter. Two things are limited: the memory of a decoder's window, and input that yields almost no
output, because such input costs time and never reaches a limit on size.
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
# Compression makes data at most slightly longer: 5 bytes in 64 KiB, or 1 % for bzip2 on noise. The spare bytes are for
# headers and indexes, which yield no output. Empty streams cost up to a second per MiB; the limit ends them soon.
SPARE_INPUT_BYTES = 4 << 20
MAX_INPUT_PER_OUTPUT = 1.125

_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes((0x50 + number,)) + b"\x2a\x4d\x18" for number in range(16))  # parallel zstd begins with one
_LONGEST_MAGIC = 6
_NOT_ZERO = re.compile(rb"[^\0]")


class DamagedError(Exception):
    """The archive is cut off or corrupt; the message says how, and the caller adds the place."""


class _Decoder(Protocol):
    """Decodes one stream; the interface of the decompressors of bz2 and lzma."""

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
    """A zstd decoder limits only its input, not its output: see `piece` of its format."""

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
    magics: tuple[bytes, ...]  # the first bytes of a stream
    decoders: Callable[[], Callable[[], _Decoder]]  # call once per file -> a function that makes one decoder per stream
    piece: int = 1 << 16  # bytes per call of the decoder; bytes that a finished stream leaves unused are copied


FORMATS = (
    Format("gzip", (b"\x1f\x8b",), lambda: _Gzip),
    Format("xz", (b"\xfd7zXZ\0",), lambda: lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_DECODER_BYTES)),
    Format("bzip2", (b"BZh",), lambda: bz2.BZ2Decompressor),
    Format(
        "zstd", (_ZSTD, *_SKIPPABLE), _zstd_decoders, piece=1 << 12
    ),  # a block of 4 bytes may become 128 KiB: 128 MiB at most
)


def format_of(magic: bytes) -> Format | None:
    """The compression of a file that begins with these bytes; None when it is not compressed."""
    return next((kind for kind in FORMATS if magic.startswith(kind.magics)), None)


class Decompressed:
    """The content of a compressed file, read from start to end. Calls `on_progress` for each chunk of the file.

    Raises
    ------
    DamagedError
        The data are cut off or corrupt.
    ArchiveError
        Too much input yields too little output.
    OperatorError
        The disk cannot be read.
    """

    def __init__(self, file: BinaryIO, kind: Format, name: str, on_progress: Callable[[], None]) -> None:
        self._file, self._kind, self._name, self._on_progress = file, kind, name, on_progress
        self._fresh = kind.decoders()
        self._decoder = self._fresh()
        self._chunk, self._at = b"", 0  # a chunk of the file, and how much of it the decoder has received
        self._output = memoryview(b"")
        self._given = self._yielded = 0
        self._ended = False
        self.trailing = 0  # bytes other than zero after the last stream

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
            raise DamagedError(f"the {self._kind.name} data end too early (was the transfer cut off?)")
        self._output = memoryview(output)
        self._yielded += len(output)
        self._given += len(piece)
        if self._given > SPARE_INPUT_BYTES + MAX_INPUT_PER_OUTPUT * self._yielded:
            raise ArchiveError(
                f"{self._name}: {self._given:,} bytes of {self._kind.name} data hold only {self._yielded:,} bytes; no "
                "compressor writes such data, so the file looks like an attack"
            )

    def _next_stream(self) -> None:
        """Begin the next stream, or find the end of the file."""
        unused = self._decoder.unused_data
        self._given -= len(unused)
        self._at -= len(unused)  # the unused bytes end the last piece, and a piece never spans two chunks
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
    """A file that is not compressed, with the same interface."""

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
