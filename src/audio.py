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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Generic, Never, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.error import FFmpegError

from audio_problems import ffmpeg_reason, why_unreadable
from audio_salvage import MIN_SOUND_S, Sound, find_sound
from downmix import SAMPLE_RATE, Balance, Downmix, Mono, Plan
from errors import AudioError, OperatorError

MIN_CLIP_S = 0.1  # below it, nothing can be said, and some encoders and players make nothing of it
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
_MAX_TRACKS = 8  # of one file that are looked at
_SOUND_RMS = 33.0  # of 32768, -60 dB of full scale: a piece of a track below it is silence
_MISSING_S, _MISSING_SHARE = 1.0, 0.05  # a header may claim so much more than is there before it is worth a note
_TOO_LOUD = 2.0  # float samples beyond it are not meant to be of full scale 1

_T = TypeVar("_T")


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says; `duration_s` is its claim (None when it makes none), nothing was decoded."""

    duration_s: float | None
    source_format: str  # container/codec, for example mp3/mp3float
    sample_rate: int  # Hz
    channels: int


@dataclass(frozen=True)
class ConvertedClip:
    """A conversion that went well. `damaged_packets` were skipped, as players skip them.

    `notes` say in one sentence each what of the upload the clip does not hold, or holds differently.
    """

    duration_s: float  # of the audio as decoded
    source_format: str  # container/codec
    source_bytes: int
    source_sha256: str
    damaged_packets: int = 0
    notes: tuple[str, ...] = ()


class _TooLongError(AudioError):
    pass


@dataclass(frozen=True)
class _How:
    """In which way a file is read; the first way that is tried is the plain one."""

    track: int = 0  # among the audio tracks that can be decoded
    plans: tuple[Plan, ...] | None = None  # mix with the channels aligned
    gain: float = 1.0
    rows_only: bool = False  # keep only what decodes for a second without a fault
    sound: Sound | None = None  # read this instead of the file


@dataclass
class _Tally:
    """How the packets of one file fared."""

    good: int = 0
    bad: int = 0
    samples: int = 0  # at 16 kHz
    sounding: int = 0  # samples of pieces that are not silent
    first_bad_s: float | None = None
    unfit: int = 0  # float samples that are no numbers
    peak: float = 0.0  # of float samples
    claimed_s: float | None = None  # by the container
    balances: list[Balance] = field(default_factory=list)

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
    with _open_audio(path, _How()) as (container, stream):
        claimed = container.duration
        return AudioInfo(
            duration_s=claimed / av.time_base if claimed and claimed > 0 else None,
            source_format=_source_format(container, stream),
            sample_rate=stream.sample_rate or 0,
            channels=stream.channels or 0,
        )


def decode(path: Path, *, max_clip_s: float | None = None) -> npt.NDArray[np.float32]:
    """Decode a file to what Whisper hears: float32 mono at 16 kHz in [-1, 1), shape (samples,).

    The samples equal those of `whisperx.load_audio` bit for bit (the same resampler, and 16-bit steps in between),
    unless its plain mix of the channels would lose what they hold (`downmix.py`).

    Raises
    ------
    AudioError
        The file cannot be decoded, is damaged throughout, or is longer than `max_clip_s`.
    """
    take, _ = _best(path, max_clip_s, list)
    return np.concatenate(take.result).astype(np.float32) / np.float32(32768)


def convert_to_opus(source: Path, target: Path, *, max_clip_s: float) -> ConvertedClip:
    """Convert `source` to Opus, 32 kbit/s, 16 kHz mono, in Ogg at `target`.

    The target appears complete or not at all: it is written under a temporary name beside it, then renamed. The same
    input gives the same bytes, without the source's tags.

    Raises
    ------
    AudioError
        The source is not audio, is damaged throughout, is shorter than `MIN_CLIP_S` or longer than `max_clip_s`
        seconds; nothing is written.
    OperatorError
        The source cannot be read or the target cannot be written (disk full, permissions).
    """
    # The encoded clip is collected in memory (4 kB per second, bounded by max_clip_s) and written by Python, because
    # FFmpeg does not report a full disk reliably.
    take, notes = _best(source, max_clip_s, _encoded)
    tally = take.tally
    if tally.samples < MIN_CLIP_S * SAMPLE_RATE:
        raise AudioError(
            f"{source.name!r} is too short: {tally.samples / SAMPLE_RATE:.4f} s of audio, at least {MIN_CLIP_S:g} s "
            "are needed"
        )
    with _reading(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    _write_atomically(target, take.result.getbuffer())
    return ConvertedClip(
        tally.samples / SAMPLE_RATE, take.source_format, size, digest, tally.bad, tuple(_damage(tally) + notes)
    )


@dataclass(frozen=True)
class _Take(Generic[_T]):
    """What one reading of a file gave."""

    result: _T
    tally: _Tally
    source_format: str


def _best(path: Path, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]) -> tuple[_Take[_T], list[str]]:
    """Read a file in the plain way, or, when that fails, what of it is sound -> also notes on what was left out."""
    try:
        return _best_track(path, _How(), max_clip_s, collect)
    except _TooLongError as error:
        raise AudioError(str(error)) from None
    except AudioError as error:
        try:
            return _salvaged(path, max_clip_s, collect)
        except AudioError as again:
            raise (AudioError(str(again)) if isinstance(again, _TooLongError) else error) from None


def _salvaged(
    path: Path, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]
) -> tuple[_Take[_T], list[str]]:
    with _reading(path) as file:
        sound = find_sound(file)
    if sound is None:
        take, notes = _best_track(path, _How(rows_only=True), max_clip_s, collect)
        if take.source_format.startswith(("mp3/", "aac/")):  # looked through already; what is left is chance
            raise AudioError(_damaged(path, take.tally))
        return take, [*notes, f"only stretches of at least {MIN_SOUND_S:g} s that decode without a fault are kept"]
    take, notes = _best_track(path, _How(sound=sound), max_clip_s, collect)
    note = f"{sound.skipped} bytes are no audio and are left out; the first audio begins at byte {sound.first}"
    return take, [*notes, note]


def _best_track(
    path: Path, how: _How, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]
) -> tuple[_Take[_T], list[str]]:
    """The first audio track that holds sound for at least half as long as the track with the most."""
    with _open_audio(path, how) as (container, _):
        total = len(container.streams.audio)
        usable = _usable(container)
    takes: list[tuple[int, _Take[_T], list[str]]] = []
    failure: AudioError | None = None
    for track in range(min(len(usable), _MAX_TRACKS)):
        try:
            takes.append((usable[track], *_balanced(path, replace(how, track=track), max_clip_s, collect)))
        except _TooLongError:
            raise
        except AudioError as error:
            failure = failure or error
    if not takes:
        raise failure or AudioError(f"{path.name!r} has no audio track that can be decoded")
    most = max(take.tally.sounding for _, take, _ in takes)
    index, take, notes = next(item for item in takes if item[1].tally.sounding * 2 >= most)
    if total > 1:
        sounding = [str(n + 1) for n, other, _ in takes if other.tally.sounding and n != index]
        also = f"; track {', '.join(sounding)} holds sound, too, and is not kept" if sounding else ""
        notes = [*notes, f"of {total} audio tracks, track {index + 1} is used{also}"]
    return take, notes


def _balanced(
    path: Path, how: _How, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]
) -> tuple[_Take[_T], list[str]]:
    """Read one track; a second time when the plain mix or the plain level lost what it holds."""
    take, notes = _take(path, how, max_clip_s, collect), []
    tally = take.tally
    if tally.unfit:
        notes.append(f"{tally.unfit} samples are no numbers and are taken as silence")
    if tally.peak > _TOO_LOUD:
        how = replace(how, gain=1 / tally.peak)
        notes.append(f"samples reach {tally.peak:.4g} times full scale and are scaled down")
    cancelled = sum(balance.cancelled_s for balance in tally.balances)
    if cancelled:
        how = replace(how, plans=tuple(balance.plan for balance in tally.balances))
        notes.append(f"channels cancel each other for {cancelled:.1f} s; they are aligned before they are mixed")
    return (take if not cancelled and tally.peak <= _TOO_LOUD else _take(path, how, max_clip_s, collect)), notes


def _take(path: Path, how: _How, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]) -> _Take[_T]:
    tally = _Tally()
    with _open_audio(path, how) as (container, stream):
        if container.duration and container.duration > 0 and how.sound is None and _measured(path, container):
            tally.claimed_s = container.duration / av.time_base
        result = collect(_samples(path, container, stream, tally, max_clip_s, how))
        source_format = _source_format(container, stream)
    if tally.samples == 0:
        raise AudioError(f"{path.name!r} holds no audio samples: nothing in it could be decoded")
    if tally.damaged_throughout and not how.rows_only:
        raise AudioError(_damaged(path, tally))
    return _Take(result, tally, source_format)


def _measured(path: Path, container: Any) -> bool:
    """Whether a duration comes from a header; that of an MP3 without one is FFmpeg's guess from the bit rate."""
    if container.format.name not in {"mp3", "aac", "amr", "mpeg", "mpegts"}:
        return True
    with _reading(path) as file:
        head = file.read(65_536)
    return container.format.name == "mp3" and (b"Xing" in head or b"Info" in head)


def _damage(tally: _Tally) -> list[str]:
    notes = []
    if tally.bad:
        where = "" if tally.first_bad_s is None else f", the first at {tally.first_bad_s:.1f} s"
        notes.append(
            f"{tally.bad} of {tally.good + tally.bad} audio packets cannot be decoded{where}; they are left out"
        )
    have = tally.samples / SAMPLE_RATE
    if tally.claimed_s is not None and tally.claimed_s - have > max(_MISSING_S, _MISSING_SHARE * tally.claimed_s):
        notes.append(f"the header says {tally.claimed_s:.1f} s, but only {have:.1f} s could be decoded")
    return notes


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
def _open_audio(path: Path, how: _How) -> Iterator[tuple[Any, Any]]:
    """Open container and audio track; every FFmpeg error inside the block becomes an AudioError."""
    with _reading(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise AudioError(f"{path.name!r} is empty (0 bytes)")
        try:
            container = av.open(
                file if how.sound is None else io.BytesIO(how.sound.content), "r",
                format=None if how.sound is None else how.sound.format, container_options=_OPEN_OPTIONS,
                metadata_errors="ignore", io_open=_refuse_further_files,
            )  # fmt: skip
        except (FFmpegError, OSError, ValueError) as error:
            raise AudioError(f"{path.name!r} cannot be read as audio: {why_unreadable(file)}") from error
        try:
            with container:
                yield container, _audio_stream(path, container, how.track)
        except (FFmpegError, ValueError) as error:
            raise AudioError(f"{path.name!r} cannot be decoded: {ffmpeg_reason(error)}") from error
        except OSError as error:  # Python's own, from reading the file: the disk's fault, not the clip's
            raise OperatorError(f"{path} cannot be read: {error.strerror}; check the disk") from error


def _refuse_further_files(url: str, _flags: int, _options: dict[str, str]) -> Never:
    raise PermissionError(f"a clip may not open {url!r}")


def _audio_stream(path: Path, container: Any, track: int) -> Any:
    streams = container.streams.audio
    if not streams:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise AudioError(f"{path.name!r} has no audio stream; it holds {' and '.join(kinds)} only")
    usable = _usable(container)
    if not usable:
        codec = _codec(streams[0]) or "an unknown codec"
        raise AudioError(f"{path.name!r} is coded with {codec}, which is not supported")
    return streams[usable[track]]


def _usable(container: Any) -> list[int]:
    """The audio tracks that can be decoded, by their place among all audio tracks."""
    return [place for place, stream in enumerate(container.streams.audio) if _codec(stream) in _CODECS]


def _codec(stream: Any) -> str | None:
    return None if stream.codec_context is None else stream.codec_context.name


def _source_format(container: Any, stream: Any) -> str:
    return f"{container.format.name.split(',')[0]}/{stream.codec_context.name}"


def _samples(
    path: Path, container: Any, stream: Any, tally: _Tally, max_clip_s: float | None, how: _How
) -> Iterator[Mono]:
    """Yield the clip as int16 mono at 16 kHz in pieces of shape (samples,), skipping what cannot be decoded."""
    limit = float("inf") if max_clip_s is None else max_clip_s * SAMPLE_RATE
    downmix = Downmix(how.plans)
    tally.balances = downmix.balances
    frames = _frames(path, container, stream, tally, how)
    for frame in _fit(_rows(frames) if how.rows_only else frames, stream, tally, how.gain):
        for piece in downmix.feed(frame):
            tally.samples += len(piece)
            if np.square(piece, dtype=np.float64).mean() > _SOUND_RMS**2:
                tally.sounding += len(piece)
            if tally.samples > limit:
                raise _TooLongError(f"{path.name!r} is longer than the {max_clip_s:g} s that are accepted (MAX_CLIP_S)")
            yield piece


def _frames(path: Path, container: Any, stream: Any, tally: _Tally, how: _How) -> Iterator[AudioFrame | None]:
    """Yield what decodes; None for what does not, and at the end."""
    for packet in _packets(path, container, stream, tally):
        try:
            frames = packet.decode()
        except FFmpegError:
            # Players skip a damaged packet and go on; so do we, and count it.
            tally.bad += 1
            if tally.first_bad_s is None:
                tally.first_bad_s = tally.samples / SAMPLE_RATE
            if tally.bad > _HOPELESS_PACKETS and tally.bad > tally.good and not how.rows_only:
                raise AudioError(_damaged(path, tally)) from None
            if how.rows_only:
                yield None
            continue
        tally.good += bool(packet.size)  # the empty packet that flushes the decoder is none of the file's
        yield from frames
    yield None


def _rows(frames: Iterator[AudioFrame | None]) -> Iterator[AudioFrame | None]:
    """Yield only the frames that stand in a row of at least `MIN_SOUND_S`."""
    row: list[AudioFrame] = []
    seconds = 0.0
    for frame in frames:
        if frame is not None:
            seconds += frame.samples / (frame.sample_rate or SAMPLE_RATE)
            if seconds < MIN_SOUND_S:
                row.append(frame)
            else:
                yield from row
                row.clear()
                yield frame
        else:
            row.clear()
            seconds = 0.0
    yield None


def _fit(frames: Iterator[AudioFrame | None], stream: Any, tally: _Tally, gain: float) -> Iterator[AudioFrame | None]:
    """Replace float samples that are no numbers, and scale those that are not of full scale 1."""
    raw_floats = stream.codec_context.name.startswith(("pcm_f32", "pcm_f64"))
    for frame in frames:
        if frame is None or not raw_floats:
            yield frame
            continue
        samples = frame.to_ndarray()
        fit = np.isfinite(samples)
        tally.unfit += int(samples.size - np.count_nonzero(fit))
        tally.peak = max(tally.peak, float(np.abs(samples, where=fit, out=np.zeros_like(samples)).max(initial=0.0)))
        if gain == 1.0 and fit.all():
            yield frame
            continue
        mended = AudioFrame.from_ndarray(
            np.where(fit, samples, 0).astype(samples.dtype) * samples.dtype.type(gain), frame.format.name, frame.layout
        )
        mended.sample_rate = frame.sample_rate
        yield mended


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
                raise AudioError(f"{path.name!r} cannot be read on: {ffmpeg_reason(error)}") from error
        else:
            return


def _encoded(pieces: Iterator[Mono]) -> io.BytesIO:
    target = io.BytesIO()
    _encode_opus(pieces, target)
    return target


def _encode_opus(pieces: Iterator[Mono], target: BinaryIO) -> None:
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
