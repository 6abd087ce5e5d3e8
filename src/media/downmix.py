"""Mix frames of any rate and any number of channels down to mono at 16 kHz, without losing sound of any channel.

The plain mix is FFmpeg's, as in Whisper's own loader. It cancels sound that two channels hold in opposite phase: a clip
whose right channel is the inverted left channel would become silence, and moderation would miss its speech. So the
plain mix is compared with the channels while it is made. If it loses much, the clip is mixed again with its channels
aligned: in each band of each 32 ms, a channel in opposite phase to the others is inverted before it is added. This
keeps at least the summed power of the channels, also when the phase changes in time or only in some bands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

SAMPLE_RATE = 16_000  # Hz, mono: Whisper's input, so a higher rate has no use

_FRAME = 512  # samples, 32 ms: short enough to follow speech, long enough to separate its bands
_HOP = _FRAME // 2
_BLOCK_FRAMES = 15  # frames of a block, half a second, which is measured as a whole
_BLOCK_S = _BLOCK_FRAMES * _FRAME / SAMPLE_RATE
_SPEECH_HZ = (100, 7000)  # the band of speech
_QUIET = 1e-8  # a block with a lower mean power counts as silent: -80 dB of full scale
# A frequency bin is lost when the mix keeps less than this share of the power that unrelated channels keep on average.
_LOST_STEREO, _LOST_MANY = 0.2, 0.1
# Two unrelated channels lose 10 % of their power this way; a larger share means that channels cancel each other.
_LOST_IN_A_BLOCK = 0.5
_LOST_IN_A_WHILE, _WHILE_BLOCKS = 0.2, 8
_ACTIVE = 0.01  # share of the loudest channel's power above which a channel counts

Mono = npt.NDArray[np.int16]  # (samples,)
Channels = npt.NDArray[np.float32]  # (channels, samples)


@dataclass(frozen=True)
class Plan:
    """How to mix one stretch of a clip with its channels aligned."""

    reference: int  # the loudest channel, which is never inverted
    active: int  # how many channels count


@dataclass
class Balance:
    """Measures what the plain mix loses, in one stretch with a fixed number of channels."""

    channels: int
    power: npt.NDArray[np.float64] = field(init=False)  # per channel
    lost: list[float] = field(default_factory=list)  # share of each block's power, 0 for silence
    weight: list[float] = field(default_factory=list)  # each block's power
    _mixed: npt.NDArray[np.float32] = field(init=False)
    _apart: Channels = field(init=False)

    def __post_init__(self) -> None:
        self.power = np.zeros(self.channels)
        self._mixed = np.zeros(0, np.float32)
        self._apart = np.zeros((self.channels, 0), np.float32)
        hertz = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE)
        # The weight rises with the frequency, as in hearing: loud bass must not hide that the speech is lost.
        self._hearing = np.where((hertz >= _SPEECH_HZ[0]) & (hertz <= _SPEECH_HZ[1]), hertz, 0).astype(np.float32)
        self._window = np.hanning(_FRAME).astype(np.float32)

    def feed(self, mono: Mono | None, apart: Channels | None) -> None:
        if mono is not None:
            self._mixed = np.concatenate([self._mixed, mono.astype(np.float32) / 32768])
        if apart is not None:
            self._apart = np.concatenate([self._apart, np.nan_to_num(apart)], axis=1)
        while min(self._mixed.size, self._apart.shape[1]) >= _BLOCK_FRAMES * _FRAME:
            self._measure(_BLOCK_FRAMES)

    def finish(self) -> None:
        """Measure the remaining samples, padded with silence to whole frames."""
        left = min(self._mixed.size, self._apart.shape[1])
        if left:
            short = -left % _FRAME
            self._mixed = np.pad(self._mixed[:left], (0, short))
            self._apart = np.pad(self._apart[:, :left], ((0, 0), (0, short)))
            self._measure((left + short) // _FRAME)

    @property
    def cancelled_s(self) -> float:
        """Seconds in which the plain mix loses much; 0 when the plain mix is good."""
        lost, weight = np.asarray(self.lost), np.asarray(self.weight)
        if not weight.any():
            return 0.0
        width = min(_WHILE_BLOCKS, len(lost))
        over = np.convolve(weight, np.ones(width), "valid")
        share = np.convolve(lost * weight, np.ones(width), "valid") / np.where(over > 0, over, 1)
        if lost.max() <= _LOST_IN_A_BLOCK and share.max() <= _LOST_IN_A_WHILE:
            return 0.0
        return float(np.count_nonzero(lost > _LOST_IN_A_WHILE)) * _BLOCK_S

    @property
    def plan(self) -> Plan:
        loudest = float(self.power.max(initial=0.0))
        return Plan(int(self.power.argmax()), max(1, int(np.count_nonzero(self.power > _ACTIVE * loudest))))

    def _measure(self, frames: int) -> None:
        count = frames * _FRAME
        mixed, self._mixed = self._mixed[:count], self._mixed[count:]
        apart, self._apart = self._apart[:, :count], self._apart[:, count:]
        powers = np.square(apart, dtype=np.float64).sum(axis=1)
        self.power += powers
        if powers.sum() / count < _QUIET:
            self.lost.append(0.0)
            self.weight.append(0.0)
            return
        original = self._spectrum(apart.reshape(self.channels, frames, _FRAME)).sum(axis=0)
        kept = self._spectrum(mixed.reshape(frames, _FRAME))
        least = (_LOST_STEREO if self.channels == 2 else _LOST_MANY) / self.channels**2
        total = float(original.sum())
        lost = float(original[kept < least * original].sum()) / total if total else 0.0
        # Sound outside the speech band must not vanish as a whole either.
        if np.square(mixed, dtype=np.float64).sum() < least * powers.sum():
            lost = 1.0
        self.lost.append(lost)
        self.weight.append(total)

    def _spectrum(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        power: npt.NDArray[np.float32] = np.abs(np.fft.rfft(frames * self._window)).astype(np.float32) ** 2
        return power * self._hearing


class _AlignedMix:
    """Mixes (channels, samples) to mono with the channels aligned; `None` flushes."""

    def __init__(self, plan: Plan, channels: int) -> None:
        self._plan = plan
        self._order = [plan.reference, *(n for n in range(channels) if n != plan.reference)]
        self._window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)).astype(np.float32)
        self._held = np.zeros((channels, _HOP), np.float32)  # so that the first samples are also in two frames
        self._tail = np.zeros(_HOP, np.float32)
        self._owed, self._skip = 0, _HOP

    def feed(self, apart: Channels | None) -> Mono:
        if apart is None:
            apart = np.zeros((len(self._order), _FRAME), np.float32)
        else:
            self._owed += apart.shape[1]
        self._held = np.concatenate([self._held, np.nan_to_num(apart)], axis=1)
        count = (self._held.shape[1] - _FRAME) // _HOP + 1
        if count < 1:
            return np.zeros(0, np.int16)
        views = np.lib.stride_tricks.sliding_window_view(self._held, _FRAME, axis=1)[:, : count * _HOP : _HOP]
        mixed = np.fft.irfft(self._mix(np.fft.rfft(views * self._window)), _FRAME).astype(np.float32) * self._window
        self._held = self._held[:, count * _HOP :].copy()
        out = mixed[:, :_HOP].copy()
        out[0] += self._tail
        out[1:] += mixed[:-1, _HOP:]
        self._tail = mixed[-1, _HOP:].copy()
        samples = out.reshape(-1)[self._skip :] / self._plan.active
        self._skip = max(0, self._skip - count * _HOP)
        samples = samples[: self._owed]
        self._owed -= samples.size
        return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)

    def _mix(self, spectra: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
        mixed: npt.NDArray[np.complex128] = spectra[self._order[0]]
        for channel in self._order[1:]:
            other = spectra[channel]
            against = (mixed * other.conj()).real < 0
            mixed = mixed + np.where(against, -other, other)
        return mixed


class Downmix:
    """Converts frames to int16 mono at 16 kHz. A stretch ends where the rate or layout changes (chained Ogg, MP3).

    Without `plans` it makes the plain mix, and `balances` holds one measurement per stretch. With their plans it makes
    the aligned mix.
    """

    def __init__(self, plans: Sequence[Plan] | None = None) -> None:
        self.balances: list[Balance] = []
        self._plans = plans
        self._stretch = -1
        self._shape: tuple[object, ...] | None = None
        self._plain: AudioResampler | None = None
        self._apart: AudioResampler | None = None
        self._aligned: _AlignedMix | None = None

    def feed(self, frame: AudioFrame | None) -> Iterator[Mono]:
        """Resample and mix one frame; None flushes."""
        shape = None if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            if self._shape is not None:
                yield from self._run(None)
            self._shape = shape
            if frame is not None:
                self._begin(frame)
        if frame is not None:
            frame.pts = None  # a file with a jump in its time stamps is accepted
            yield from self._run(frame)

    def _begin(self, frame: AudioFrame) -> None:
        self._stretch += 1
        channels = frame.layout.nb_channels
        several = channels > 1
        self._plain = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        self._apart = AudioResampler(format="flt", layout=frame.layout, rate=SAMPLE_RATE) if several else None
        self._aligned = None
        if self._plans is None:
            self.balances.append(Balance(channels))
        elif several and self._stretch < len(self._plans):
            self._aligned = _AlignedMix(self._plans[self._stretch], channels)

    def _run(self, frame: AudioFrame | None) -> Iterator[Mono]:
        apart = [] if self._apart is None else [_split(out) for out in self._apart.resample(frame)]
        if self._aligned is not None:
            for piece in [*apart, None] if frame is None else apart:
                mixed = self._aligned.feed(piece)
                if mixed.size:
                    yield mixed
            return
        balance = self.balances[-1] if self._plans is None and self._apart is not None else None
        if balance is not None:
            for piece in apart:
                balance.feed(None, piece)
        assert self._plain is not None  # noqa: S101  set by _begin
        for out in self._plain.resample(frame):
            mono = out.to_ndarray().reshape(-1).astype(np.int16, copy=False)
            if balance is not None:
                balance.feed(mono, None)
            yield mono
        if balance is not None and frame is None:
            balance.finish()


def _split(frame: AudioFrame) -> Channels:
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T.astype(np.float32)
