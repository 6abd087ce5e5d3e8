"""Reading untrusted audio files, and turning each into the one format that the pipeline keeps.

Everything happens in process, on FFmpeg's libraries through PyAV; no `ffmpeg` program is started. A file is never
believed: the extension is ignored, only the containers and decoders listed below are tried, and FFmpeg gets an open
file object, no protocols and a refusal for every further file it asks for. A playlist, a concat script or an SDP file
that poses as a clip therefore reaches neither the disk nor the network.

`probe`, `decode` and `convert_to_opus` raise `AudioError` with one sentence that names the file and its problem, and
`OperatorError` when the disk or its permissions are to blame.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Never

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from errors import AudioError, OperatorError

SAMPLE_RATE = 16_000  # Hz, mono: what Whisper hears, so nothing above it is worth keeping
OPUS_BIT_RATE = 32_000  # bit/s: transparent for speech at 16 kHz mono, about 4 kB per second
OPUS_COMPLEXITY = "5"  # of 10: conversion takes 44 % of the CPU time of 10, and speech loses nothing one can hear

# Containers that phones, browsers and platforms write; all carry their samples inside the file.
_CONTAINERS = (
    "aac", "ac3", "aiff", "amr", "asf", "au", "avi", "caf", "eac3", "flac", "flv", "matroska", "mov", "mp3", "mpeg",
    "mpegts", "ogg", "w64", "wav", "wv",
)  # fmt: skip
_CODECS = frozenset({
    "aac", "aac_latm", "ac3", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "adpcm_yamaha", "alac", "amrnb",
    "amrwb", "eac3", "flac", "g722", "gsm", "gsm_ms", "libopus", "mp1", "mp1float", "mp2", "mp2float", "mp3",
    "mp3float", "nellymoser", "opus", "pcm_alaw", "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_mulaw",
    "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s8", "pcm_u8", "speex", "vorbis",
    "wavpack", "wmapro", "wmav1", "wmav2",
})  # fmt: skip
# The codec list also keeps video decoders, which a clip may name in its header, from running while FFmpeg probes.
_OPEN_OPTIONS = {
    "format_whitelist": ",".join(_CONTAINERS),
    "codec_whitelist": ",".join(sorted(_CODECS)),
    "protocol_whitelist": "none",
}

_FEW_BAD_PACKETS = 2  # any clip may have so many
_BAD_SHARE = 0.2  # above this share of undecodable packets, what is left is not what was said
_HOPELESS_PACKETS = 200  # so many bad packets and fewer good ones: stop reading, however long the file
_MAX_READ_FAILURES = 20  # in a row: the container itself is lost


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says; `duration_s` is its claim (None when it makes none), nothing was decoded."""

    duration_s: float | None
    source_format: str  # container/codec, for example mp3/mp3float
    sample_rate: int  # Hz
    channels: int


@dataclass(frozen=True)
class ConvertedClip:
    """A conversion that went well. `damaged_packets` were skipped, as players skip them."""

    duration_s: float  # of the audio as decoded
    source_format: str  # container/codec
    source_bytes: int
    source_sha256: str
    damaged_packets: int = 0


@dataclass
class _Tally:
    """How the packets of one file fared."""

    good: int = 0
    bad: int = 0
    samples: int = 0  # at 16 kHz

    @property
    def damaged_throughout(self) -> bool:
        return self.bad > max(_FEW_BAD_PACKETS, _BAD_SHARE * (self.good + self.bad)) or self.bad > self.good > 0


def probe(path: Path) -> AudioInfo:
    """Read a file's header.

    Raises
    ------
    AudioError
        The file is no audio that is accepted here; the message says why.
    """
    with _open_audio(path) as (container, stream):
        claimed = container.duration
        return AudioInfo(
            duration_s=claimed / av.time_base if claimed and claimed > 0 else None,
            source_format=_source_format(container, stream),
            sample_rate=stream.sample_rate or 0,
            channels=stream.channels or 0,
        )


def decode(path: Path, *, max_clip_s: float | None = None) -> npt.NDArray[np.float32]:
    """Decode a file to what Whisper hears: float32 mono at 16 kHz in [-1, 1), shape (samples,).

    The samples equal those of `whisperx.load_audio` bit for bit: the same resampler, and 16-bit steps in between.

    Raises
    ------
    AudioError
        The file cannot be decoded, is damaged throughout, or is longer than `max_clip_s`.
    """
    tally = _Tally()
    with _open_audio(path) as (container, stream):
        chunks = list(_samples(path, container, stream, tally, max_clip_s))
    _check_outcome(path, tally)
    return np.concatenate(chunks).astype(np.float32) / np.float32(32768)


def convert_to_opus(source: Path, target: Path, *, max_clip_s: float) -> ConvertedClip:
    """Convert `source` to Opus, 32 kbit/s, 16 kHz mono, in Ogg at `target`.

    The target appears complete or not at all: it is written under a temporary name beside it, then renamed. The same
    input gives the same bytes, without the source's tags.

    Raises
    ------
    AudioError
        The source is not audio, is damaged throughout, or is longer than `max_clip_s` seconds; nothing is written.
    OperatorError
        The source cannot be read or the target cannot be written (disk full, permissions).
    """
    tally = _Tally()
    # The encoded clip is collected in memory (4 kB per second, bounded by max_clip_s) and written by Python, because
    # FFmpeg does not report a full disk reliably.
    encoded = io.BytesIO()
    with _open_audio(source) as (container, stream):
        _encode_opus(_samples(source, container, stream, tally, max_clip_s), encoded)
        source_format = _source_format(container, stream)
    _check_outcome(source, tally)
    with _reading(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    _write_atomically(target, encoded.getbuffer())
    return ConvertedClip(tally.samples / SAMPLE_RATE, source_format, size, digest, tally.bad)


@contextmanager
def _reading(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading; a pipe or a device would block for ever."""
    try:
        if not path.is_file():
            raise AudioError(f"{path.name!r} cannot be read: there is no such file")
        file = path.open("rb")
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}; check the disk and its permissions") from error
    with file:
        yield file


@contextmanager
def _open_audio(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open container and first audio stream; every FFmpeg error inside the block becomes an AudioError."""
    with _reading(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise AudioError(f"{path.name!r} is empty (0 bytes)")
        try:
            container = av.open(
                file, "r", container_options=_OPEN_OPTIONS, metadata_errors="ignore", io_open=_refuse_further_files
            )
        except (FFmpegError, OSError, ValueError) as error:
            raise AudioError(f"{path.name!r} cannot be read as audio: {_why_unreadable(file)}") from error
        try:
            with container:
                yield container, _audio_stream(path, container)
        except (FFmpegError, ValueError) as error:
            raise AudioError(f"{path.name!r} cannot be decoded: {_ffmpeg_reason(error)}") from error
        except OSError as error:  # Python's own, from reading the file: the disk's fault, not the clip's
            raise OperatorError(f"{path} cannot be read: {error.strerror}; check the disk") from error


def _refuse_further_files(url: str, _flags: int, _options: dict[str, str]) -> Never:
    raise PermissionError(f"a clip may not open {url!r}")


def _audio_stream(path: Path, container: Any) -> Any:
    streams = container.streams.audio
    if not streams:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise AudioError(f"{path.name!r} has no audio stream; it holds {' and '.join(kinds)} only")
    stream = streams[0]
    codec = None if stream.codec_context is None else stream.codec_context.name
    if codec not in _CODECS:
        raise AudioError(f"{path.name!r} is coded with {codec or 'an unknown codec'}, which is not supported")
    return stream


def _source_format(container: Any, stream: Any) -> str:
    return f"{container.format.name.split(',')[0]}/{stream.codec_context.name}"


def _samples(
    path: Path, container: Any, stream: Any, tally: _Tally, max_clip_s: float | None
) -> Iterator[npt.NDArray[np.int16]]:
    """Yield the clip as int16 mono at 16 kHz in pieces of shape (samples,), skipping what cannot be decoded."""
    limit = float("inf") if max_clip_s is None else max_clip_s * SAMPLE_RATE
    resampler = _Resampler()
    for frame in _frames(path, container, stream, tally):
        for piece in resampler.feed(frame):
            tally.samples += len(piece)
            if tally.samples > limit:
                raise AudioError(f"{path.name!r} is longer than the {max_clip_s:g} s that are accepted (MAX_CLIP_S)")
            yield piece
    for piece in resampler.feed(None):
        tally.samples += len(piece)
        yield piece


def _frames(path: Path, container: Any, stream: Any, tally: _Tally) -> Iterator[AudioFrame]:
    for packet in _packets(path, container, stream, tally):
        try:
            frames = packet.decode()
        except FFmpegError:
            # Players skip a damaged packet and go on; so do we, and count it.
            tally.bad += 1
            if tally.bad > _HOPELESS_PACKETS and tally.bad > tally.good:
                raise AudioError(_damaged(path, tally)) from None
            continue
        tally.good += bool(packet.size)  # the empty packet that flushes the decoder is none of the file's
        yield from frames


def _packets(path: Path, container: Any, stream: Any, tally: _Tally) -> Iterator[Any]:
    failures = 0
    while True:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
        except FFmpegError as error:
            # A demuxer that stumbles can often read on behind the damage; one that keeps stumbling has lost the file.
            failures += 1
            tally.bad += 1
            if failures > _MAX_READ_FAILURES:
                raise AudioError(f"{path.name!r} cannot be read on: {_ffmpeg_reason(error)}") from error
        else:
            return


class _Resampler:
    """To int16 mono at 16 kHz; starts anew when the stream changes its rate or layout midway (chained Ogg, MP3)."""

    def __init__(self) -> None:
        self._resampler: AudioResampler | None = None
        self._shape: tuple[object, ...] | None = None

    def feed(self, frame: AudioFrame | None) -> Iterator[npt.NDArray[np.int16]]:
        """Resample one frame; None flushes."""
        shape = None if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            if self._resampler is not None:
                yield from self._run(None)
            self._resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE) if frame else None
            self._shape = shape
        if frame is not None:
            frame.pts = None  # a jump in time stamps is a fault of the file, not a reason to fail
            yield from self._run(frame)

    def _run(self, frame: AudioFrame | None) -> Iterator[npt.NDArray[np.int16]]:
        assert self._resampler is not None  # noqa: S101  set by feed
        for out in self._resampler.resample(frame):
            yield out.to_ndarray().reshape(-1).astype(np.int16, copy=False)


def _encode_opus(pieces: Iterator[npt.NDArray[np.int16]], target: BinaryIO) -> None:
    # Without "bitexact" the Ogg serial number is random, and equal clips would not give equal files.
    with av.open(target, "w", format="ogg", container_options={"fflags": "+bitexact"}) as container:
        options = {"application": "audio", "compression_level": OPUS_COMPLEXITY}
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, options=options)
        stream.layout = "mono"
        stream.bit_rate = OPUS_BIT_RATE
        position = 0
        for piece in pieces:
            frame = AudioFrame.from_ndarray(piece[np.newaxis, :], format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts, frame.time_base = position, Fraction(1, SAMPLE_RATE)
            position += len(piece)
            container.mux(stream.encode(frame))
        if position:  # the encoder of a stream without samples was never opened
            container.mux(stream.encode(None))


def _check_outcome(path: Path, tally: _Tally) -> None:
    if tally.samples == 0:
        raise AudioError(f"{path.name!r} holds no audio samples: nothing in it could be decoded")
    if tally.damaged_throughout:
        raise AudioError(_damaged(path, tally))


def _damaged(path: Path, tally: _Tally) -> str:
    return (
        f"{path.name!r} is damaged throughout: {tally.bad} of {tally.good + tally.bad} audio packets cannot be decoded"
    )


def _write_atomically(target: Path, content: memoryview) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".converting-", suffix=".opus")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:  # raised again: whatever happened, no half-written file may stay
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OperatorError(f"{target} cannot be written: {error.strerror}; check space and permissions") from error


def _why_unreadable(file: BinaryIO) -> str:
    """Say what is wrong with a file whose container FFmpeg does not open."""
    file.seek(0)
    head = file.read(16)
    if head[4:8] == b"ftyp" and not _has_box(file, b"moov"):
        return "the file ends early, the index (moov) of this MP4 never arrived"
    if head[:4] in {b"RIFF", b"fLaC", b"OggS", b"\x1a\x45\xdf\xa3", b"FORM", b"caff"} or head[4:8] == b"ftyp":
        return "its header is damaged or the file ends early"
    return "it is in none of the audio formats that are accepted"


def _has_box(file: BinaryIO, wanted: bytes) -> bool:
    """Walk the top-level boxes of an MP4 (ISO/IEC 14496-12, 4.2)."""
    size = file.seek(0, os.SEEK_END)
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4]), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16])
        elif length == 0:
            length = size - position
        if kind == wanted:
            return position + length <= size
        position += max(length, 8)  # a length below its own header is nonsense; move on all the same
    return False


def _ffmpeg_reason(error: Exception) -> str:
    """FFmpeg's own words, without the number in front and the call behind."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
