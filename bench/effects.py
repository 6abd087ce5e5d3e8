"""What happens to a voice before it is uploaded: played faster, repeated, sent by telephone, mixed with other sound.

Signals are mono float32 at `RATE_HZ`, full scale is 1. Every function is a pure function of its arguments.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float32]

RATE_HZ = 16_000
TELEPHONE_HZ = (300.0, 3400.0)
MU = 255.0  # of the companding of telephone lines, G.711
FRAME, HOP = 400, 100  # samples: 25 ms and 6 ms, short enough to follow speech
ENVELOPE = 30  # cepstral coefficients that hold the shape of the mouth and not the pitch of the voice


def seeded(name: str) -> np.random.Generator:
    """A generator of random numbers that depends on a name only."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def rms(signal: Signal) -> float:
    """The root mean square of the samples that are not nearly silent, so that pauses do not count."""
    loud = signal[np.abs(signal) > 1e-3 * (np.abs(signal).max(initial=0.0) or 1.0)]
    return float(np.sqrt(np.mean(np.square(loud, dtype=np.float64)))) if loud.size else 0.0


def levelled(signal: Signal, level_db: float) -> Signal:
    """Scale to a level in dB of full scale."""
    now = rms(signal)
    return signal if now == 0.0 else (signal * np.float32(10 ** (level_db / 20) / now)).astype(np.float32)


def joined(parts: Sequence[Signal], gap_s: float) -> Signal:
    """One part after the other with silence of `gap_s` seconds before, between and behind them."""
    gap = np.zeros(int(gap_s * RATE_HZ), np.float32)
    pieces = [gap]
    for part in parts:
        pieces += [part, gap]
    return np.concatenate(pieces)


def _filtered(signal: Signal, name: str, arguments: str) -> Signal:
    """The signal behind one of FFmpeg's audio filters."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE_HZ, format="flt", layout="mono", time_base=Fraction(1, RATE_HZ))
    step = graph.add(name, arguments)
    sink = graph.add("abuffersink")
    source.link_to(step)
    step.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal[np.newaxis, :]), format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
    graph.push(frame)
    graph.push(None)
    out = []
    while True:
        try:
            out.append(graph.pull().to_ndarray().reshape(-1))
        except (av.error.BlockingIOError, av.error.EOFError):
            break
    return np.concatenate(out).astype(np.float32)


def tempo(signal: Signal, factor: float) -> Signal:
    """Play faster with the pitch kept, as the speed button of an app does."""
    return _filtered(signal, "atempo", f"{factor:g}")


def resampled(signal: Signal, factor: float) -> Signal:
    """Play faster with the pitch raised, as a tape does."""
    spectrum = np.fft.rfft(signal)
    samples = int(len(signal) / factor)
    keep = spectrum[: samples // 2 + 1]
    return np.asarray(np.fft.irfft(keep, samples) * (samples / len(signal)), dtype=np.float32)


def telephone(signal: Signal) -> Signal:
    """Send through a telephone line: 8 kHz, 300 to 3400 Hz, 8 bits with the companding of G.711."""
    hertz = np.fft.rfftfreq(len(signal), 1 / RATE_HZ)
    low, high = TELEPHONE_HZ
    band = np.clip((hertz - low / 2) / (low / 2), 0, 1) * np.clip((high + 300 - hertz) / 300, 0, 1)
    line = np.fft.irfft(np.fft.rfft(signal) * band, len(signal))
    line = np.clip(line / (np.abs(line).max() * 1.2 or 1.0), -1, 1)
    companded = np.sign(line) * np.log1p(MU * np.abs(line)) / np.log1p(MU)
    steps = np.round(companded * 127) / 127
    return np.asarray(np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(MU)) / MU, dtype=np.float32)


def mixed(signal: Signal, other: Signal, below_db: float) -> Signal:
    """Lay `other` under the signal, `below_db` dB softer than it (louder if negative); its length is the signal's."""
    laid = np.resize(other, len(signal)).astype(np.float32) if len(other) else np.zeros_like(signal)
    level = rms(signal) * 10 ** (-below_db / 20)
    own = rms(laid)
    both = signal + (laid * np.float32(level / own) if own else laid)
    return np.asarray(both * min(1.0, 0.89 / (np.abs(both).max() or 1.0)), dtype=np.float32)


def side_by_side(signal: Signal, other: Signal, below_db: float) -> Signal:
    """Mix two voices that talk at once; the longer one gives the length."""
    length = max(len(signal), len(other))
    first, second = (np.pad(item, (0, length - len(item))) for item in (signal, other))
    scale = rms(signal) * 10 ** (-below_db / 20) / (rms(other) or 1.0)
    both = first + second * np.float32(scale)
    return np.asarray(both * min(1.0, 0.89 / (np.abs(both).max() or 1.0)), dtype=np.float32)


def noise(samples: int, level_db: float, name: str) -> Signal:
    """Noise of a room: louder towards the low end, at a level in dB of full scale."""
    spectrum = np.fft.rfft(seeded(name).standard_normal(samples))
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / RATE_HZ), 60.0)
    shaped = np.fft.irfft(spectrum / np.sqrt(hertz), samples)
    return np.asarray(shaped / np.sqrt(np.mean(shaped**2)) * 10 ** (level_db / 20), dtype=np.float32)


def whispered(signal: Signal, name: str) -> Signal:
    """Take the tone out of a voice: noise that has the voice's spectral shape in every frame of 25 ms."""
    window = np.hanning(FRAME)
    count = max(1, (len(signal) - FRAME) // HOP + 1)
    padded = np.pad(signal, (0, max(0, FRAME - len(signal))))
    breath = seeded(name).standard_normal(len(padded))
    out = np.zeros(len(padded))
    for start in range(0, count * HOP, HOP):
        piece = padded[start : start + FRAME] * window
        cepstrum = np.fft.irfft(np.log(np.abs(np.fft.rfft(piece)) + 1e-6))
        cepstrum[ENVELOPE : FRAME - ENVELOPE + 1] = 0.0
        shape = np.exp(np.fft.rfft(cepstrum).real)
        air = np.fft.rfft(breath[start : start + FRAME] * window)
        out[start : start + FRAME] += np.fft.irfft(air / (np.abs(air) + 1e-9) * shape, FRAME) * window
    return levelled(out.astype(np.float32), -26)[: len(signal)]
