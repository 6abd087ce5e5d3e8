"""Hostile archives in the real unpack worker and the GPU worker: a failure concerns only its archive."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator

import pytest
import zstandard

from local.services import Services
from tests.reliability.hostile_tar import Tar
from tests.reliability.siege import FORGED, GOOD, STUB_GPU, UNPACKER, Siege, besieged, heard, tone

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}
MAX_BYTES, MAX_MEMBERS = 90_000_000, 200
BOMB = 70_000_000  # unpacked: below MAX_BYTES, above the 64 MiB that any small archive may become
TEN_TB = 10 << 40


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, services: Services) -> Iterator[Siege]:
    """Two workers that process all archives of this module."""
    with besieged(tmp_path_factory.mktemp("archives"), services) as siege:
        siege.start(UNPACKER, MAX_ARCHIVE_BYTES=str(MAX_BYTES), MAX_ARCHIVE_MEMBERS=str(MAX_MEMBERS))
        siege.start(STUB_GPU)
        yield siege
        siege.stop()


@pytest.fixture
def siege(shared: Siege) -> Iterator[Siege]:
    shared.forget_letters()
    yield shared
    shared.assert_unharmed()


def test_members_that_reach_out_of_their_directory_are_skipped_and_clips_are_done(siege):
    victim, outside = str(siege.outside / "victim.wav"), str(siege.outside)
    climbing = ["../planted.wav", "../../by-hand/00001.opus", "../../../outside/planted.wav", "a/../../../../cwd/x.wav"]
    archive = Tar().add("first.wav", tone(1))
    for name in climbing:
        archive.add(name, tone(2))
    archive.add(f"{outside}/planted.wav", tone(3))  # absolute: inside the archive its slash means nothing
    archive.add("way", type_=tarfile.SYMTYPE, link=outside).add("way/planted.wav", tone(4))
    archive.add("way.wav", type_=tarfile.SYMTYPE, link=victim).add("way.wav", tone(5))
    archive.add("up.wav", type_=tarfile.SYMTYPE, link="../../../outside/link.wav")
    archive.add("hard.wav", type_=tarfile.LNKTYPE, link=victim).add("hard.wav", tone(6))
    archive.add("tied.wav", type_=tarfile.LNKTYPE, link="../../../outside/victim.wav")
    archive.add("null.wav", type_=tarfile.CHRTYPE, device=(1, 3)).add("disk.wav", type_=tarfile.BLKTYPE, device=(8, 0))
    archive.add("pipe.wav", type_=tarfile.FIFOTYPE).add("last.wav", tone(7))
    batch = siege.put("reaching", archive.close())
    siege.wait_complete(batch)
    assert siege.skipped(batch) == [
        *((name, "its name leaves the archive ('..')") for name in climbing),
        ("way", "it is a symbolic link; only regular files are extracted"),
        ("way.wav", "it is a symbolic link; only regular files are extracted"),
        ("up.wav", "it is a symbolic link; only regular files are extracted"),
        ("hard.wav", "it is a hard link; only regular files are extracted"),
        ("tied.wav", "it is a hard link; only regular files are extracted"),
        ("null.wav", "it is a device; only regular files are extracted"),
        ("disk.wav", "it is a device; only regular files are extracted"),
        ("pipe.wav", "it is a FIFO; only regular files are extracted"),
    ]
    assert siege.clips(batch) == {
        "first.wav": heard(1),
        f"{outside}/planted.wav".removeprefix("/"): heard(3),
        "way/planted.wav": heard(4),
        "way.wav": heard(5),
        "hard.wav": heard(6),
        "last.wav": heard(7),
    }
    assert siege.counts(batch) == (6, 6, 0)
    assert siege.letters() == []


@pytest.mark.thorough
def test_members_that_pose_as_others_or_are_no_files_cost_only_themselves(siege):
    inner = Tar().add("a.wav", tone(1)).close()
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(TEN_TB)}
    archive = Tar().add("same.wav", tone(1)).add("./same.wav", tone(2)).add("other//same.wav", tone(3))
    archive.add("hole.wav", bytes(512), type_=tarfile.GNUTYPE_SPARSE)
    archive.add("hole too.wav", b"1\n0\n10995116277760\n".ljust(512, b"\0"), pax=sparse)
    archive.add("inner.tar", inner).add("inner.tar.xz", lzma.compress(inner)).add("inner.wav", inner)
    archive.add("inner", inner).add("tone without an extension", tone(4)).add("zeros.zip", bytes(100))
    batch = siege.put("posing", archive.close())
    siege.wait_complete(batch)
    assert siege.skipped(batch) == [
        ("same.wav", "an earlier member has the same name"),
        ("hole.wav", "it is a sparse file; only regular files are extracted"),
        ("hole too.wav", "it is a sparse file; only regular files are extracted"),
        ("inner.tar", "it is an archive inside the archive"),
        ("inner.tar.xz", "it is an archive inside the archive"),
        ("zeros.zip", "it is an archive inside the archive"),
        ("inner", "not audio: '00004' cannot be read as audio: it has none of the accepted audio formats"),
    ]
    assert siege.clips(batch) == {
        "same.wav": heard(1),
        "other/same.wav": heard(3),
        "tone without an extension": heard(4),
        "inner.wav": None,
    }
    assert siege.counts(batch) == (4, 3, 1)
    [letter] = siege.letters()
    assert (letter.clip, letter.payload) == ("inner.wav", siege.sent[batch])
    assert "none of the accepted audio formats" in letter.error


@pytest.mark.thorough
def test_no_name_forges_a_log_line_stalls_a_batch_or_is_too_long_for_the_database(siege):
    noise = random.Random(1)  # noqa: S311 -- names that do not compress
    wide = "".join(chr(noise.randrange(0x4E00, 0x9F00)) for _ in range(330))
    tails = bytes(noise.randrange(0x80, 0xC0) for _ in range(240))  # in UTF-8, bytes that nothing begins with
    taken = {
        b"\xff caf\xe9.wav": "\\xff caf\\xe9.wav",
        b"n" * 251 + b".wav": "n" * 251 + ".wav",
        tails + b".wav": "".join(f"\\x{byte:02x}" for byte in tails) + ".wav",
        f"{wide}.wav".encode(): f"{wide}.wav",
        b"d/" * 400 + b"deep.wav": "d/" * 400 + "deep.wav",
        f"a\n{FORGED}.wav".encode(): f"a\\n{FORGED}.wav",
        f"b\r\x85\u2028{FORGED}.wav".encode(): f"b\\r\\x85\\u2028{FORGED}.wav",
        b"\x1b]0;owned\x07\x1b[2J.wav": "\\x1b]0;owned\\x07\\x1b[2J.wav",
        "\x9b31m \u202evaw.wav".encode(): "\\x9b31m \\u202evaw.wav",
        b"' OR 1=1; DROP TABLE batches; --.wav": "' OR 1=1; DROP TABLE batches; --.wav",
        b"%s%n{0}$(id)`id`.wav": "%s%n{0}$(id)`id`.wav",
    }
    archive = Tar()
    for number, name in enumerate(taken):
        archive.add(name, tone(number))
    archive.add("x" * 5_000 + ".wav", tone(), pax={}).add(b"\xfe" * 100 + b"/" + b"\xff" * 200 + b".wav", tone())
    archive.add(" ", tone()).add("\u3000", tone(), pax={}).add(b"no\nclip.txt", b"text").add("last.wav", tone())
    batch = siege.put("naming", archive.close())
    siege.wait_complete(batch)
    assert siege.clips(batch) == {**{name: heard(n) for n, name in enumerate(taken.values())}, "last.wav": heard()}
    assert siege.counts(batch) == (len(taken) + 1, len(taken) + 1, 0)
    assert [(name[:8], reason) for name, reason in siege.skipped(batch)] == [
        ("xxxxxxxx", "its name is longer than 1,000 bytes"),
        ("\\xfe\\xfe", "its name is longer than 1,000 bytes"),
        (" ", "it has no name"),
        ("\u3000", "it has no name"),
        ("no\\nclip", "its name is not that of an audio file"),
    ]
    assert siege.letters() == []


Case = tuple[str, bytes, str]  # batch, archive, what its dead letter must say


def bombs() -> Iterator[Case]:
    zeros = Tar().add("zeros.wav", bytes(BOMB)).close()
    for how in ("gzip", "xz", "zstd"):
        yield f"bomb-{how}", COMPRESSIONS[how](zeros), "looks like a decompression bomb"
    behind = Tar().add("a.wav", tone()).close() + bytes(BOMB)
    yield "bomb-behind-the-end", COMPRESSIONS["zstd"](behind), "looks like a decompression bomb"
    large = Tar().add("a.wav", bytes(BOMB // 2)).add("b.wav", bytes(1000)).add("c.wav", size=MAX_BYTES).close()
    yield "bomb-by-size", COMPRESSIONS["zstd"](large), rf"above the limit of {MAX_BYTES:,}"
    many = Tar()
    for number in range(MAX_MEMBERS + 1):
        many.add(f"{number}.wav", tone() if number < 2 else b"")
    yield "bomb-by-count", many.close(), f"holds more than {MAX_MEMBERS} members"


def claims() -> Iterator[Case]:
    yield "ten-terabytes", Tar().add("a.wav", tone()).add("b.wav", size=TEN_TB).close(), f"{TEN_TB:,} of 'b.wav'"
    claim = Tar().add("a.wav", tone()).add("b.wav", pax={"size": str(TEN_TB)}).close()
    yield "ten-terabytes-in-pax", claim, f"{TEN_TB:,} of 'b.wav'"
    endless = b"11 path=ab\n" + b"x" * 40  # a record without a length: a reader that passes over it never moves on
    yield "pax-without-length", Tar().header(b"x", endless).add("a.wav", tone()).close(), "pax header is malformed"
    yield "pax-of-digits", Tar().header(b"x", b"9" * 100_000).add("a.wav", tone()).close(), "pax header"
    name = Tar().header(b"L", b"n" * (2 << 20)).add("a.wav", tone()).close()
    yield "name-of-two-megabytes", name, "above the limit of 1,048,576"
    yield "nothing-but-headers", Tar().header(b"L", b"n").close(), "but a member must follow"


def no_archives() -> Iterator[Case]:
    yield "no-archive", b"this is no archive " * 500, "it must be a tar"
    yield "no-bytes", b"", "it is empty"
    yield "no-members", Tar().close(), "holds no audio file"
    yield "no-members-xz", COMPRESSIONS["xz"](Tar().close()), "holds no audio file"
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("a.wav", tone())
    yield "zip", zipped.getvalue(), "it is a zip file"


def damaged() -> Iterator[Case]:
    whole = Tar().add("a.wav", tone(1)).add("b.wav", tone(2)).add("c.wav", tone(3)).close()
    second = whole.index(b"b.wav")
    for where, cut in {"header": second + 100, "data": second + 2000, "padding": second - 10, "end": -1024}.items():
        yield f"cut-in-{where}", whole[:cut], r"is damaged at .*\(was the transfer cut off\?\)"
    yield "corrupt-in-header", whole[: second + 120] + b"7777" + whole[second + 124 :], "a header's checksum is wrong"
    for how, compress in COMPRESSIONS.items():
        packed = compress(whole)
        middle = len(packed) // 2
        yield f"cut-{how}", packed[:middle], "is damaged at|is not a readable archive"
        if how != "zstd":  # whose end is but a checksum of what has come whole
            yield f"cut-{how}-end", packed[:-3], "is damaged at"
        spoilt = bytes(byte ^ 0x5A for byte in packed[middle : middle + 64])
        yield f"corrupt-{how}", packed[:middle] + spoilt + packed[middle + 64 :], "is damaged at"


@pytest.mark.parametrize("make", [bombs, claims, no_archives, damaged])
@pytest.mark.thorough
def test_archives_that_cannot_be_trusted_are_given_up_and_the_next_one_is_done(siege, make):
    cases = {batch: (archive, sentence) for batch, archive, sentence in make()}
    for batch, (archive, _) in cases.items():
        siege.put(batch, archive)
    after = siege.put_good(f"after-{make.__name__.replace('_', '-')}")
    siege.wait_complete(after)
    reasons = siege.reasons()
    assert reasons.keys() == cases.keys()
    assert len(siege.letters()) == len(cases)
    assert {batch: said for batch, said in reasons.items() if not re.search(cases[batch][1], said)} == {}
    assert all(siege.clips(batch) == {} for batch in cases), "half an archive would look like a whole one"
    assert siege.clips(after) == {GOOD: heard()}
    assert siege.counts(after) == (1, 1, 0)
