"""The end of an archive: bytes after it, a second archive after it, and input that yields no output."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archives.extract import Extraction, Limits, extract
from errors import ArchiveError

Compress = Callable[[bytes], bytes]
COMPRESSIONS: dict[str, Compress] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}
COMPRESSED = {name: compress for name, compress in COMPRESSIONS.items() if name != "plain"}
SKIPPABLE = b"\x50\x2a\x4d\x18"
BEHIND = "(after the end)"


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def unpack(tmp_path: Path, data: bytes, on_progress: Callable[[], None] = lambda: None) -> Extraction:
    archive = tmp_path / "a.tar"
    archive.write_bytes(data)
    return extract(archive, tmp_path / "out", Limits(), on_progress)


def names(result: Extraction) -> list[str]:
    return [member.name for member in result.members]


def every(compressions: dict[str, Compress]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("compress", compressions.values(), ids=compressions.keys())


@pytest.mark.parametrize(
    ("behind", "count"), [(b"\r\n", 2), (b"\n" * 600, 600), (b"\0" * 100 + b"-- \nsignature", 13), (b"\x8e\x19@", 3)]
)
@every(COMPRESSIONS)
def test_other_bytes_behind_a_whole_archive_are_a_note(
    tmp_path: Path, compress: Compress, behind: bytes, count: int
) -> None:
    result = unpack(tmp_path, compress(tar({"a.mp3": b"1"})) + behind)
    assert names(result) == ["a.mp3"]
    [note] = result.skipped
    counted = count - behind.strip(b"\0").count(0)
    assert (note.name, note.reason) == (
        BEHIND,
        f"{counted:,} bytes of data follow the archive's end marker; they are not read",
    )


@pytest.mark.parametrize("length", [1, 7, 512, 3 << 20])
@every(COMPRESSIONS)
def test_zeros_behind_a_whole_archive_mean_nothing(tmp_path: Path, compress: Compress, length: int) -> None:
    result = unpack(tmp_path, compress(tar({"a.mp3": b"1"})) + bytes(length))
    assert (names(result), result.skipped) == (["a.mp3"], ())


@every(COMPRESSED)
def test_zeros_between_two_streams_mean_nothing(tmp_path: Path, compress: Compress) -> None:
    data = tar({"a.mp3": b"1" * 3000, "b.mp3": b"2"})
    assert names(unpack(tmp_path, compress(data[:2000]) + bytes(1000) + compress(data[2000:]))) == ["a.mp3", "b.mp3"]


@every(COMPRESSED)
def test_other_bytes_before_the_end_marker_are_damage(tmp_path: Path, compress: Compress) -> None:
    data = tar({"a.mp3": b"1" * 3000, "b.mp3": b"2"})
    with pytest.raises(ArchiveError, match=r"damaged at member 1 .* 8 bytes follow that are not \w+ data"):
        unpack(tmp_path, compress(data[:2000]) + b"no magic")


@every(COMPRESSED)
def test_a_second_stream_that_is_cut_is_damage(tmp_path: Path, compress: Compress) -> None:
    data = tar({"a.mp3": b"1" * 3000, "b.mp3": os.urandom(3000)})
    with pytest.raises(ArchiveError, match=r"damaged at .* end too early"):
        unpack(tmp_path, compress(data[:2000]) + compress(data[2000:])[:-900])


@every(COMPRESSED)
def test_a_second_stream_that_is_corrupt_is_damage(tmp_path: Path, compress: Compress) -> None:
    data = tar({"a.mp3": b"1" * 3000, "b.mp3": b"2"})
    second = bytearray(compress(data[2000:]))
    second[5:] = b"\xa5" * (len(second) - 5)
    with pytest.raises(ArchiveError, match="damaged at "):
        unpack(tmp_path, compress(data[:2000]) + second)


@every(COMPRESSIONS)
def test_archives_behind_one_another_are_read_as_one(tmp_path: Path, compress: Compress) -> None:
    first, second = tar({"a.mp3": b"1", "b.mp3": b"2"}), tar({"c.mp3": b"3", "a.mp3": b"4"})
    result = unpack(tmp_path, compress(first) + compress(second))
    assert names(result) == ["a.mp3", "b.mp3", "c.mp3"]
    assert [(item.name, item.reason) for item in result.skipped] == [("a.mp3", "an earlier member has the same name")]


def test_a_second_archive_that_is_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"damaged at member 2 \('b\.mp3'\): .*transfer cut off"):
        unpack(tmp_path, tar({"a.mp3": b"1"}) + tar({"b.mp3": b"2" * 2000})[:1500])


def test_limits_count_over_archives_behind_one_another(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar({"a.mp3": b"1"}) * 4)
    with pytest.raises(ArchiveError, match="holds more than 3 members"):
        extract(tmp_path / "a.tar", tmp_path / "out", Limits(members=3))


def test_a_checksum_of_signed_bytes_is_valid(tmp_path: Path) -> None:
    info = tarfile.TarInfo("Zoë ü.mp3")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    signed = sum(byte - 256 * (byte > 127) for byte in header[:148] + b" " * 8 + header[156:])
    header[148:156] = b"%06o\0 " % signed
    assert names(unpack(tmp_path, bytes(header) + bytes(1024))) == ["Zoë ü.mp3"]


def test_a_directory_that_begins_with_a_dot_may_hold_clips(tmp_path: Path) -> None:
    result = unpack(tmp_path, tar({".ohh/a.mp3": b"1", "sub/.cache/b.mp3": b"2", ".c.wav": b"3", ".mp3": b"4"}))
    assert (names(result), result.skipped) == ([".ohh/a.mp3", "sub/.cache/b.mp3", ".c.wav", ".mp3"], ())


def claiming(size: int) -> bytes:
    """The header of a member that claims this many bytes."""
    info = tarfile.TarInfo("a.wav")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def xz_blocks_of_one_byte(count: int) -> bytes:
    """One stream of many blocks that hold a byte each."""
    whole = lzma.compress(b"x", check=lzma.CHECK_NONE)
    block = whole[12 : 12 + (whole[12] + 1) * 4 + 8]
    return whole[:12] + block * count


SILENT: dict[str, Callable[[], bytes]] = {
    "empty bzip2 streams": lambda: bz2.compress(b"") * 400_000,
    "empty xz streams": lambda: lzma.compress(b"") * 200_000,
    "one large skippable zstd frame": lambda: SKIPPABLE + struct.pack("<I", 6 << 20) + os.urandom(6 << 20),
    "a gzip member's endless name": lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (6 << 20),
}
MORE_SILENT: dict[str, Callable[[], bytes]] = {
    "empty gzip members": lambda: gzip.compress(b"") * 300_000,
    "gzip members of one byte": lambda: gzip.compress(claiming(1 << 20)) + gzip.compress(b"x") * 220_000,
    "empty zstd frames": lambda: zstandard.compress(b"") * 600_000,
    "skippable zstd frames": lambda: (SKIPPABLE + bytes(4)) * 700_000,
    "xz blocks of one byte": lambda: lzma.compress(claiming(1 << 20)) + xz_blocks_of_one_byte(250_000),
}


@pytest.mark.parametrize("silent", [*SILENT, *(pytest.param(name, marks=pytest.mark.thorough) for name in MORE_SILENT)])
def test_input_that_yields_nothing_is_refused_by_name(tmp_path: Path, silent: str) -> None:
    make = (SILENT | MORE_SILENT)[silent]
    with pytest.raises(ArchiveError, match=r"^a\.tar: 4,\d\d\d,\d\d\d bytes of \w+ data hold only [\d,]+ bytes"):
        unpack(tmp_path, make())


@every(COMPRESSED)
@pytest.mark.thorough
def test_noise_that_no_compressor_makes_smaller_is_read(tmp_path: Path, compress: Compress) -> None:
    noise = os.urandom(9 << 20)
    result = unpack(tmp_path, compress(tar({"a.mp3": noise})))
    assert result.members[0].path.read_bytes() == noise


def test_streams_of_64_kib_are_read_as_parallel_compressors_write_them(tmp_path: Path) -> None:
    data = tar({"a.mp3": os.urandom(8 << 20)})
    pieces = [gzip.compress(data[at : at + (1 << 16)], 1) for at in range(0, len(data), 1 << 16)]
    assert names(unpack(tmp_path, b"".join(pieces) + gzip.compress(b""))) == ["a.mp3"]


@pytest.mark.parametrize(
    "command", [["xz", "-T2", "--block-size=65536"], ["xz", "-9e"], ["bzip2", "-1"], ["gzip", "-9"]]
)
def test_what_the_common_programs_write_is_read(tmp_path: Path, command: list[str]) -> None:
    data = tar({"a.mp3": os.urandom(300_000), "b.wav": bytes(300_000)})
    packed = subprocess.run([*command, "-c"], input=data, capture_output=True, check=True).stdout
    assert names(unpack(tmp_path, packed)) == ["a.mp3", "b.wav"]


@every(COMPRESSIONS)
@pytest.mark.thorough
def test_progress_is_told_for_each_chunk_and_each_member(tmp_path: Path, compress: Compress) -> None:
    told: list[None] = []
    files = {f"{number}.mp3": b"1" for number in range(30)} | {"large.mp3": os.urandom(5 << 20)}
    unpack(tmp_path, compress(tar(files)), lambda: told.append(None))
    assert len(told) >= 31 + 5


def test_progress_is_told_while_zeros_are_unpacked_from_little_input(tmp_path: Path) -> None:
    told: list[None] = []
    unpack(tmp_path, lzma.compress(tar({"a.wav": bytes(40 << 20)}), preset=0), lambda: told.append(None))
    assert len(told) >= 40


class AskedToStopError(OSError):
    """Raised by a caller; it is an OSError, like the errors of reading and writing files."""


@pytest.mark.parametrize("after", [pytest.param(0, marks=pytest.mark.thorough), 3])
@every(COMPRESSIONS)
def test_what_the_progress_callback_raises_passes_through(tmp_path: Path, compress: Compress, after: int) -> None:
    told: list[None] = []

    def stop() -> None:
        told.append(None)
        if len(told) > after:
            raise AskedToStopError

    with pytest.raises(AskedToStopError):
        unpack(tmp_path, compress(tar({"a.mp3": os.urandom(2 << 20)})), stop)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.thorough
def test_streams_split_anywhere_hold_the_same_and_never_more(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    compress = data.draw(st.sampled_from(list(COMPRESSED.values())))
    whole = tar({"a.mp3": b"1" * 700, "b.mp3": b"2" * 2000})
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    parts = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    padding = data.draw(st.integers(0, 20))
    behind = data.draw(st.binary(max_size=40))
    packed = bytes(padding).join(compress(part) for part in parts)
    try:
        result = unpack(tmp_path_factory.mktemp("split"), packed + behind)
    except ArchiveError:
        assert behind.strip(b"\0").startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")) or (
            behind.strip(b"\0")[1:4] == b"\x2a\x4d\x18"
        ), "only what looks like a further stream may cost the archive"
        return
    assert [(member.name, member.size) for member in result.members] == [("a.mp3", 700), ("b.mp3", 2000)]
