"""Hostile clips in the real unpack worker and the GPU worker: a failure concerns only its clip."""

from __future__ import annotations

import gzip
import io
import re
import struct
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame

from local.services import Services
from tests.reliability import misbehaving_unpack_worker as defect
from tests.reliability.hostile_tar import Tar
from tests.reliability.siege import GOOD, STUB_GPU, UNPACKER, Siege, besieged, heard, tone
from tests.workers.programs import session_members

HERTZ = 400  # below half of the lowest rate
SAID = f"a tone of {HERTZ} hertz"
EIGHT_HOURS_S = 8 * 3600
MISBEHAVING = "tests.reliability.misbehaving_unpack_worker"


def wav(rate: int, *, channels: int = 1, seconds: float = 1.0, bits: int = 16) -> bytes:
    """A tone; silence with 8 bits."""
    count = int(rate * seconds)
    if bits == 8:
        data = b"\x80" * (count * channels)
    else:
        one = (8_000 * np.sin(2 * np.pi * HERTZ * np.arange(count) / rate)).astype("<i2")
        data = np.repeat(one, channels).tobytes()
    size = bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * size, channels * size, bits)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt \x10\0\0\0" + form + _chunk(data)


def _chunk(data: bytes) -> bytes:
    return b"data" + struct.pack("<I", len(data)) + data


def encoded(kind: str, codec: str, seconds: float = 1.0) -> bytes:
    rate = 44_100
    samples = (8_000 * np.sin(2 * np.pi * HERTZ * np.arange(int(rate * seconds)) / rate)).astype(np.float32) / 32768
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        frame = AudioFrame.from_ndarray(samples[np.newaxis, :], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def cover_only_mp3() -> bytes:
    """An ID3 tag with a picture, and no sound after it."""
    picture = b"\0image/png\0\x03\0" + b"\x89PNG\r\n\x1a\n" + bytes(3000)
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    size = len(frame)
    return b"ID3\x03\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + frame


def cover_only_m4a() -> bytes:
    """A picture as the only track."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture
def siege(tmp_path_factory: pytest.TempPathFactory, services: Services) -> Iterator[Siege]:
    with besieged(tmp_path_factory.mktemp("siege"), services) as siege:
        yield siege
        siege.assert_unharmed()
        siege.stop()


def assert_failed(siege: Siege, batch: str, expected: dict[str, tuple[bytes, str]]) -> None:
    """Each clip has a dead letter with its reason, the job's payload, and the clip as it was uploaded."""
    letters = {letter.clip: letter for letter in siege.letters() if letter.batch_id == batch}
    assert letters.keys() == expected.keys()
    unexpected = {
        clip: letters[clip].error for clip, (_, why) in expected.items() if not re.search(why, letters[clip].error)
    }
    assert unexpected == {}
    for clip, (content, _) in expected.items():
        assert letters[clip].payload == siege.sent[batch]
        parked = siege.store.client.get_object(Bucket=siege.store.bucket, Key=str(letters[clip].parked_s3_key))
        assert parked["Body"].read() == content, clip


@pytest.mark.thorough
def test_bad_clips_get_a_letter_each_and_strange_ones_are_heard(siege):
    mp3, m4a = encoded("mp3", "libmp3lame", 4.0), encoded("ipod", "aac")
    strange = {
        "really a wav.mp3": wav(16_000),
        "really an mp3.wav": mp3,
        "really an m4a.ogg": m4a,
        "1 kHz.wav": wav(1_000),
        "192 kHz.wav": wav(192_000),
        "8 channels.wav": wav(16_000, channels=8),
        "cut but readable.mp3": mp3[: len(mp3) // 2],
        "no extension at all": mp3,
    }
    secret = siege.outside / "victim.wav"
    bad = {
        "nothing.wav": (b"", r"is empty \(0 bytes\)"),
        "cover.mp3": (cover_only_mp3(), "no audio stream|cannot be (read|decoded)|no audio samples"),
        "cover.m4a": (cover_only_m4a(), "no audio stream; it holds only video"),
        "eight hours.opus": (wav(1_000, seconds=EIGHT_HOURS_S, bits=8), r"longer than 60 s.*\(MAX_CLIP_S\)"),
        "cut.m4a": (m4a[: len(m4a) // 2], "the file ends early: the index"),
        "cut.wav": (wav(16_000)[:30], "its header is damaged or the file ends early"),
        "noise.mp3": (np.random.default_rng(0).bytes(50_000), "'noise.mp3'"),
        "list.mp3": (f"#EXTM3U\n#EXTINF:9,\n{secret}\n".encode(), "has none of the accepted audio formats"),
        "script.wav": (f"ffconcat version 1.0\nfile '{secret}'\n".encode(), "has none of the accepted audio formats"),
    }
    archive = Tar()
    for name, content in {**strange, **{name: content for name, (content, _) in bad.items()}}.items():
        archive.add(name, content)
    archive.add("text without an extension", b"no audio " * 100).add(GOOD, tone())
    batch = siege.put("strange", gzip.compress(archive.close(), 1))
    siege.start(UNPACKER, MAX_CLIP_S="60")
    siege.start(STUB_GPU)
    after = siege.put_good("after")
    siege.wait_complete(batch, after)
    assert siege.clips(batch) == {**dict.fromkeys(strange, SAID), **dict.fromkeys(bad), GOOD: heard()}
    total = len(strange) + len(bad) + 1
    assert siege.counts(batch) == (total, total - len(bad), len(bad))
    [(skipped, reason)] = siege.skipped(batch)
    assert skipped == "text without an extension"
    assert "not audio" in reason
    assert_failed(siege, batch, bad)
    assert siege.clips(after) == {GOOD: heard()}

    # A letter that is brought back is no way around the limits, whatever its clip is called.
    letter = next(letter for letter in siege.letters() if letter.clip == "eight hours.opus")
    siege.retry(letter)
    siege.wait_letters(len(bad))
    assert siege.letters()[-1].clip == "eight hours.opus"
    assert "longer than" in siege.letters()[-1].error


@pytest.mark.thorough
def test_a_decoder_that_hangs_or_dies_costs_its_clip_and_no_process_is_left_behind(siege):
    """Eight hours of audio are really too slow to convert. The other defects are simulated before the decoder."""
    slow = r"takes longer than 4 s to convert \(CLIP_TIMEOUT_S\)"
    bad = {
        "eight hours.wav": (wav(1_000, seconds=EIGHT_HOURS_S, bits=8), slow),
        "hangs.wav": (defect.HANG + tone(), slow),
        "sleeps.wav": (defect.SLEEP + tone(), slow),
        "crashes.wav": (defect.CRASH + tone(), "makes the decoder end by signal 11"),
        "is killed.wav": (defect.KILLED + tone(), "makes the decoder end by signal 9"),
        "wants 8 GB.wav": (defect.MEMORY + tone(), "needs more than 2 GB of memory"),
    }
    archive = Tar().add("first.wav", tone(1))
    for name, (content, _) in bad.items():
        archive.add(name, content)
    # Members whose names promise nothing are only looked at; a look can hang and die as well.
    archive.add("hangs", defect.HANG + tone()).add("crashes", defect.CRASH + tone()).add("sounds", tone(2))
    batch = siege.put("defects", gzip.compress(archive.add("last.wav", tone(3)).close(), 1))
    worker = siege.start(MISBEHAVING, MAX_CLIP_S="40000", CLIP_TIMEOUT_S="4")
    siege.start(STUB_GPU)
    after = siege.put_good("after")
    siege.wait_complete(batch, after, within_s=120)
    heard_ = {"first.wav": heard(1), "sounds": heard(2), "last.wav": heard(3)}
    assert siege.clips(batch) == {**heard_, **dict.fromkeys(bad)}
    assert siege.counts(batch) == (len(heard_) + len(bad), len(heard_), len(bad))
    assert [(name, re.sub(r"'\d+' ", "", reason)) for name, reason in siege.skipped(batch)] == [
        ("hangs", "not audio: takes longer than 4 s to convert (CLIP_TIMEOUT_S)"),
        ("crashes", "not audio: makes the decoder end by signal 11 (Segmentation fault)"),
    ]
    assert_failed(siege, batch, bad)
    assert siege.clips(after) == {GOOD: heard()}
    # What stays of the worker are itself, its heartbeat, the fork server and its tracker: no process that converts.
    assert len(session_members(worker.pid)) == 4
