"""Sound made by arithmetic: a short tune, a room's noise floor, and the mixing of both under speech.

Signals are mono float32 arrays at ``RATE_HZ``, full scale is 1.0.  Everything is a pure function of its arguments and
of the generator it is given, so the same seed gives the same samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float32]

RATE_HZ = 24_000  # what the voices speak at; more would only cost bytes
SPEECH_RMS = 0.09  # about -21 dBFS, the loudness of a normal upload
PEAK = 0.89  # -1 dBFS: lossy codecs overshoot a little
BEAT_S = 0.72  # 83 beats a minute
LEAD_IN_S = 0.4  # clips cut at the first sample of a word lose that word

# Four bars, each a chord of note numbers (69 = 440 Hz): A minor 7, F major 7, C major, G major.
CHORDS: tuple[tuple[int, ...], ...] = ((57, 60, 64, 67), (53, 57, 60, 64), (48, 55, 60, 64), (55, 59, 62, 67))


def _frequency_hz(note: int) -> float:
    """Return the frequency in Hz of a note number on the equal-tempered scale."""
    return float(440.0 * 2.0 ** ((note - 69) / 12.0))


def _place(track: Signal, sound: Signal, at_s: float) -> None:
    """Add ``sound`` to ``track`` at ``at_s`` seconds, in place; what runs past the end is dropped."""
    start = int(at_s * RATE_HZ)
    room = max(0, min(len(sound), len(track) - start))
    track[start : start + room] += sound[:room]


def _chime(note: int, length_s: float, decay_s: float) -> Signal:
    """Return a struck bar, as of a vibraphone; its lowest partial fades with ``decay_s`` seconds.

    A bar's partials are no whole multiples: voice detectors take a string's, which are, for vowels.
    """
    t = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    wave = np.zeros_like(t)
    for ratio, level, shortening in ((1.0, 1.0, 1.0), (3.93, 0.35, 0.35), (9.5, 0.12, 0.12)):
        frequency_hz = _frequency_hz(note) * ratio
        if frequency_hz < RATE_HZ * 0.45:  # above that it would fold back
            wave += level * np.sin(2 * np.pi * frequency_hz * t) * np.exp(-t / (decay_s * shortening))
    attack = np.minimum(1.0, t / 0.002)  # 2 ms, or the start clicks
    return np.asarray(wave * attack, dtype=np.float32)


def _kick() -> Signal:
    """Return a soft bass drum, 0.25 s: a tone that falls from 110 to 45 Hz."""
    t = np.arange(int(0.25 * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * (45 * t + (110 - 45) * 0.04 * (1 - np.exp(-t / 0.04)))
    return np.asarray(np.sin(phase) * np.exp(-t / 0.09), dtype=np.float32)


def _shaker(rng: np.random.Generator) -> Signal:
    """Return a shaker, 0.08 s: noise with its low end taken away."""
    noise = rng.standard_normal(int(0.08 * RATE_HZ))
    t = np.arange(len(noise)) / RATE_HZ
    return np.asarray(np.diff(noise, prepend=0.0) * np.exp(-t / 0.02), dtype=np.float32)


def tune(length_s: float, rng: np.random.Generator) -> Signal:
    """Return ``length_s`` seconds of a gentle loop: broken chords, bass, bass drum and shaker, peak at 0.5."""
    track = np.zeros(int(length_s * RATE_HZ), dtype=np.float32)
    bar_s = 4 * BEAT_S
    for bar in range(int(length_s / bar_s) + 1):
        chord, bar_at = CHORDS[bar % len(CHORDS)], bar * bar_s
        for step in range(8):
            at_s = bar_at + step * BEAT_S / 2
            note = chord[(0, 2, 1, 3, 2, 3, 1, 2)[step]] + 12
            _place(track, 0.30 * _chime(note, 3.0, 1.0), at_s)
            _place(track, 0.08 * _shaker(rng), at_s)
        for beat in (0, 2):
            _place(track, 0.55 * _kick(), bar_at + beat * BEAT_S)
            _place(track, 0.45 * _chime(chord[0] - 12, 2.4, 1.2), bar_at + beat * BEAT_S)
    fade = int(1.2 * RATE_HZ)
    track[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return np.asarray(track * (0.5 / np.abs(track).max()), dtype=np.float32)


def room_noise(samples: int, rng: np.random.Generator) -> Signal:
    """Return noise like that of a room: louder towards the low end, RMS of one."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / RATE_HZ), 60.0)  # below 60 Hz flat: no rumble
    shaped = np.fft.irfft(spectrum / np.sqrt(frequency), samples)
    return np.asarray(shaped / np.sqrt(np.mean(shaped**2)), dtype=np.float32)


def near_silence(length_s: float, rng: np.random.Generator) -> Signal:
    """Return ``length_s`` seconds of a microphone that hears nothing: room noise at -72 dBFS."""
    return np.asarray(room_noise(int(length_s * RATE_HZ), rng) * 10 ** (-72 / 20), dtype=np.float32)


def mix(speech: Signal, rng: np.random.Generator, room_db: float | None, bed_db: float | None) -> Signal:
    """Level ``speech``, pad it, and lay room noise and a music bed under it.

    ``room_db`` and ``bed_db`` are levels in dB relative to the speech's RMS; ``None`` leaves that layer out.
    """
    levelled = speech * (SPEECH_RMS / np.sqrt(np.mean(speech**2)))
    pad = np.zeros(int(LEAD_IN_S * RATE_HZ), dtype=np.float32)
    clip = np.concatenate([pad, levelled.astype(np.float32), pad])
    if room_db is not None:
        clip = clip + room_noise(len(clip), rng) * SPEECH_RMS * 10 ** (room_db / 20)
    if bed_db is not None:
        music = tune(len(clip) / RATE_HZ + 1, rng)[: len(clip)]
        clip = clip + music * (SPEECH_RMS * 10 ** (bed_db / 20) / np.sqrt(np.mean(music**2)))
    return np.asarray(clip * min(1.0, PEAK / np.abs(clip).max()), dtype=np.float32)
