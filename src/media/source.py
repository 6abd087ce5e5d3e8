"""Read one audio track of an untrusted file: container, packets, frames, mono samples, and a tally of damage."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Never, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.error import FFmpegError

from errors import AudioError, OperatorError
from media.downmix import SAMPLE_RATE, Balance, Downmix, Mono, Plan
from media.problems import ffmpeg_reason, why_unreadable
from media.salvage import MIN_SOUND_S, Sound

# Containers that phones, browsers and platforms write; all hold their samples inside the file.
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
# The codec list also stops FFmpeg from running a video decoder that a clip's header names.
_OPEN_OPTIONS = {
    "format_whitelist": ",".join(_CONTAINERS),
    "codec_whitelist": ",".join(sorted(_CODECS)),
    "protocol_whitelist": "none",
}

_FEW_BAD_PACKETS = 2  # this many are accepted in any clip
_BAD_SHARE = 0.2  # with a larger share of undecodable packets, the clip does not hold what was said
_HOPELESS_PACKETS = 200  # after this many bad packets and fewer good ones, reading stops
_MAX_READ_FAILURES = 20  # after this many in a row, the container is unreadable
_STREAMED = 0x7FFF_0000  # a length from here on in a WAV header was written before the real length was known
_SOUND_RMS = 33.0  # of 32768, -60 dB of full scale: a piece of a track with a lower level is silence
_OUTLIER = 1e6  # samples are limited to this, because resampling fails on larger ones

_T = TypeVar("_T")


class TooLongError(AudioError):
    pass


@dataclass(frozen=True)
class How:
    """The way in which a file is read. The defaults are the plain way, which is tried first."""

    track: int = 0  # among the audio tracks that can be decoded
    plans: tuple[Plan, ...] | None = None  # mix with the channels aligned
    gain: float = 1.0
    rows_only: bool = False  # keep only stretches of at least a second that decode without a fault
    sound: Sound | None = None  # read this instead of the file


@dataclass
class Tally:
    """Counts of the good and bad packets of one file, and measurements of its sound."""

    good: int = 0
    bad: int = 0
    samples: int = 0  # at 16 kHz
    sounding: int = 0  # samples of pieces that are not silent
    first_bad_s: float | None = None
    lost: str = ""  # why the file could not be read to its end
    unfit: int = 0  # float samples that are not numbers
    levels: list[float] = field(default_factory=list)  # one per frame of float samples
    claimed_s: float | None = None  # duration in the container's header
    balances: list[Balance] = field(default_factory=list)

    @property
    def level(self) -> float:
        """The level of float samples: the median over the frames, so that a few outliers have no effect."""
        return float(np.median(self.levels)) if self.levels else 0.0

    @property
    def damaged_throughout(self) -> bool:
        return self.bad > max(_FEW_BAD_PACKETS, _BAD_SHARE * (self.good + self.bad)) or self.bad > self.good > 0


@dataclass(frozen=True)
class Take(Generic[_T]):
    """The result of one reading of a file."""

    result: _T
    tally: Tally
    source_format: str


def take_audio(path: Path, how: How, max_clip_s: float | None, collect: Callable[[Iterator[Mono]], _T]) -> Take[_T]:
    tally = Tally()
    with open_audio(path, how) as (container, stream):
        if how.sound is None:
            tally.claimed_s = _claimed_s(path, container)
        result = collect(_samples(path, container, stream, tally, max_clip_s, how))
        source_format = source_format_of(container, stream)
    if tally.samples == 0:
        raise AudioError(f"{path.name!r} holds no audio samples: nothing in it can be decoded")
    if tally.damaged_throughout and not how.rows_only:
        raise AudioError(damaged(path, tally))
    return Take(result, tally, source_format)


def _claimed_s(path: Path, container: Any) -> float | None:
    """The duration in the header; None if FFmpeg only estimates it from the bit rate or the file's size."""
    name = container.format.name
    if not container.duration or container.duration < 0 or name in {"aac", "amr", "mpeg", "mpegts"}:
        return None
    seconds = float(container.duration / av.time_base)
    with reading(path) as file:
        head, size = file.read(65_536), os.fstat(file.fileno()).st_size
    if name == "mp3":
        return seconds if b"Xing" in head or b"Info" in head else None
    if name == "wav" and head[:4] == b"RIFF":  # for these, FFmpeg's duration is that of the existing data
        riff = int.from_bytes(head[4:8], "little")
        return seconds * riff / size if size < riff < _STREAMED else None
    return seconds


@contextmanager
def reading(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading; reading a pipe or a device could block forever."""
    try:
        if not path.is_file():
            raise AudioError(f"{path.name!r} cannot be read: there is no such regular file")
        file = path.open("rb")
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}; check the disk and its permissions") from error
    with file:
        yield file


@contextmanager
def open_audio(path: Path, how: How) -> Iterator[tuple[Any, Any]]:
    """Open container and audio track; every FFmpeg error inside the block becomes an AudioError."""
    with reading(path) as file:
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
        except OSError as error:  # Python raises this when it cannot read the file: the disk is at fault, not the clip
            raise OperatorError(f"{path} cannot be read: {error.strerror}; check the disk") from error


def _refuse_further_files(url: str, _flags: int, _options: dict[str, str]) -> Never:
    raise PermissionError(f"a clip may not open {url!r}")


def _audio_stream(path: Path, container: Any, track: int) -> Any:
    streams = container.streams.audio
    if not streams:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise AudioError(f"{path.name!r} has no audio stream; it holds only {' and '.join(kinds)}")
    usable = usable_tracks(container)
    if not usable:
        codec = _codec(streams[0]) or "an unknown codec"
        raise AudioError(f"{path.name!r} uses the codec {codec}, which is not supported")
    return streams[usable[track]]


def usable_tracks(container: Any) -> list[int]:
    """The indices of the audio tracks that can be decoded, counted over all audio tracks."""
    return [place for place, stream in enumerate(container.streams.audio) if _codec(stream) in _CODECS]


def _codec(stream: Any) -> str | None:
    return None if stream.codec_context is None else stream.codec_context.name


def source_format_of(container: Any, stream: Any) -> str:
    return f"{container.format.name.split(',')[0]}/{stream.codec_context.name}"


def _samples(
    path: Path, container: Any, stream: Any, tally: Tally, max_clip_s: float | None, how: How
) -> Iterator[Mono]:
    """Yield the clip as int16 mono at 16 kHz in pieces of shape (samples,), without packets that cannot be decoded."""
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
                raise TooLongError(f"{path.name!r} is longer than {max_clip_s:g} s, the limit (MAX_CLIP_S)")
            yield piece


def _frames(path: Path, container: Any, stream: Any, tally: Tally, how: How) -> Iterator[AudioFrame | None]:
    """Yield each decoded frame, and None for a packet that does not decode (with `rows_only`) and at the end."""
    for packet in _packets(path, container, stream, tally):
        try:
            frames = packet.decode()
        except FFmpegError:
            # Skip a damaged packet, as players do, and count it.
            tally.bad += 1
            if tally.first_bad_s is None:
                tally.first_bad_s = tally.samples / SAMPLE_RATE
            if tally.bad > _HOPELESS_PACKETS and tally.bad > tally.good and not how.rows_only:
                raise AudioError(damaged(path, tally)) from None
            if how.rows_only:
                yield None
            continue
        tally.good += bool(packet.size)  # the empty packet that flushes the decoder is not in the file
        yield from frames
    yield None


def _rows(frames: Iterator[AudioFrame | None]) -> Iterator[AudioFrame | None]:
    """Yield only the frames that are in a row of at least `MIN_SOUND_S`."""
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


def _fit(frames: Iterator[AudioFrame | None], stream: Any, tally: Tally, gain: float) -> Iterator[AudioFrame | None]:
    """Replace float samples that are not numbers, and scale samples whose full scale is not 1."""
    raw_floats = stream.codec_context.name.startswith(("pcm_f32", "pcm_f64"))
    for frame in frames:
        if frame is None or not raw_floats:
            yield frame
            continue
        samples = frame.to_ndarray()
        fit = np.isfinite(samples)
        tally.unfit += int(samples.size - np.count_nonzero(fit))
        sizes = np.abs(np.where(fit, samples, 0))
        level = float(np.percentile(sizes, 99)) if sizes.size else 0.0
        if level > 0:
            tally.levels.append(level)
        if gain == 1.0 and fit.all() and sizes.max(initial=0.0) < _OUTLIER:
            yield frame
            continue
        scaled: npt.NDArray[Any] = np.clip(np.where(fit, samples, 0) * gain, -_OUTLIER, _OUTLIER).astype(samples.dtype)
        fitted = AudioFrame.from_ndarray(scaled, frame.format.name, frame.layout)
        fitted.sample_rate = frame.sample_rate
        yield fitted


def _packets(path: Path, container: Any, stream: Any, tally: Tally) -> Iterator[Any]:
    failures = 0
    while True:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
        except FFmpegError as error:
            # After an error, a demuxer can often continue behind the damage. After many in a row, it cannot.
            failures += 1
            tally.bad += 1
            if failures > _MAX_READ_FAILURES:
                tally.lost = ffmpeg_reason(error)
                if tally.samples >= MIN_SOUND_S * SAMPLE_RATE:  # keep the sound before the damage
                    return
                raise AudioError(f"{path.name!r} cannot be read further: {ffmpeg_reason(error)}") from error
        else:
            return


def damaged(path: Path, tally: Tally) -> str:
    return (
        f"{path.name!r} is damaged throughout: {tally.bad} of {tally.good + tally.bad} audio packets cannot be decoded"
    )
