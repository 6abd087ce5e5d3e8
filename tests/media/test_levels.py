"""The waveform and the loudness that are measured while a clip is converted."""

from __future__ import annotations

import itertools
import math
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from errors import AudioError
from media.audio import convert_to_opus, decode
from media.downmix import Mono
from media.levels import LevelMeter, Levels, levels_of
from media.loudness import Loudness
from media.waveform import PEAKS, Waveform
from tests.media.test_hard_inputs import MUSIC, RATE, SPOKEN, encode, wav

Samples = npt.NDArray[np.float32]


def sine(dbfs: float, seconds: float, rate: int = RATE) -> Samples:
    """1 kHz, with its peak at `dbfs`."""
    times = np.arange(round(seconds * rate)) / rate
    return (10 ** (dbfs / 20) * np.sin(2 * np.pi * 1000 * times)).astype(np.float32)


def measured(samples: Mono, sizes: Iterator[int]) -> Levels:
    """The levels of 16-bit samples that come in pieces of these sizes."""

    def pieces() -> Iterator[Mono]:
        left = samples
        while left.size:
            size = next(sizes)
            yield left[:size]
            left = left[size:]

    meter = LevelMeter()
    passed = list(meter.watch(pieces()))
    assert np.array_equal(np.concatenate(passed), samples)  # the encoder gets what the decoder gave
    return meter.levels()


def values(levels: Levels) -> npt.NDArray[np.int64]:
    return np.frombuffer(levels.peaks, np.uint8).astype(np.int64)


@pytest.fixture(scope="module")
def speech() -> Samples:
    return decode(SPOKEN)[: 10 * RATE]


# --- known levels: EBU Tech 3341, table 1, cases 1 to 5; the files there are stereo with equal channels --------------

CASES: dict[str, tuple[list[tuple[float, float]], float]] = {  # [(dB of full scale, seconds)], LUFS
    "1": ([(-23, 20)], -23.0),
    "2": ([(-33, 20)], -33.0),
    "3": ([(-36, 10), (-23, 60), (-36, 10)], -23.0),
    "4": ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),
    "5": ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),
}


@pytest.mark.parametrize(
    "case", ["1", "5", *(pytest.param(case, marks=pytest.mark.thorough) for case in ("2", "3", "4"))]
)
def test_the_loudness_of_reference_signals_is_right(tmp_path: Path, case: str) -> None:
    parts, expected = CASES[case]
    left = np.concatenate([sine(dbfs, seconds, 48_000) for dbfs, seconds in parts])
    clip = convert_to_opus(wav(tmp_path / "a.wav", [left, left], "int24", 48_000), tmp_path / "a.opus", max_clip_s=120)
    assert clip.levels.loudness_lufs == pytest.approx(expected, abs=0.1)  # the tolerance of the table
    assert clip.levels.peak_dbfs == pytest.approx(max(dbfs for dbfs, _ in parts), abs=0.05)
    assert len(clip.levels.peaks) == PEAKS


# --- silence, very short clips, full scale ---------------------------------------------------------------------------


def test_silence_has_no_loudness_and_no_peak(tmp_path: Path) -> None:
    clip = convert_to_opus(wav(tmp_path / "a.wav", [np.zeros(5 * RATE)]), tmp_path / "a.opus", max_clip_s=60)
    assert clip.levels == Levels(bytes(PEAKS), None, None)


def test_sound_below_the_gate_has_a_peak_and_no_loudness() -> None:
    levels = levels_of(sine(-80, 5))
    assert levels.loudness_lufs is None
    assert levels.peak_dbfs == pytest.approx(-80, abs=2)  # 16 bits have few steps there
    assert set(levels.peaks) == {1}


def test_no_samples_give_no_peaks() -> None:
    assert levels_of(np.zeros(0, np.float32)) == Levels(b"", None, None)


@pytest.mark.parametrize(("samples", "peaks"), [(1, 1), (2, 2), (599, 599), (600, 600), (601, 600), (800, 600)])
def test_clips_of_few_samples_have_a_peak_per_sample_at_most(samples: int, peaks: int) -> None:
    levels = levels_of(np.full(samples, -0.5, np.float32))
    assert levels == Levels(bytes([128] * peaks), None, 20 * math.log10(0.5))


@pytest.mark.parametrize(("seconds", "known"), [(0.05, False), (0.399, False), (0.4, True), (0.45, True)])
def test_loudness_needs_a_whole_gating_block(seconds: float, known: bool) -> None:
    levels = levels_of(sine(-23, seconds))
    assert (levels.loudness_lufs is not None) is known
    assert not known or levels.loudness_lufs == pytest.approx(-23, abs=0.1)
    assert levels.peak_dbfs == pytest.approx(-23, abs=0.05)


def test_a_clip_that_is_too_short_to_keep_is_refused_as_ever(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="too short"):
        convert_to_opus(wav(tmp_path / "a.wav", [sine(-23, 0.05)]), tmp_path / "a.opus", max_clip_s=60)


def test_clipped_sound_reaches_full_scale_and_not_more() -> None:
    levels = levels_of(np.clip(sine(20, 5), -1, 1).astype(np.float32))
    assert set(levels.peaks) == {255}
    assert levels.peak_dbfs == 0.0
    assert levels.loudness_lufs == pytest.approx(3.0, abs=1)  # a square wave has 3 dB more power than a sine


# --- peaks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [601, 1600, 12_345, 2 * 16 * PEAKS])
def test_peaks_of_short_clips_are_those_of_equal_parts(samples: int) -> None:
    noise = np.random.default_rng(samples).integers(-32_768, 32_767, samples, np.int16)
    edges = [part * samples // PEAKS for part in range(PEAKS + 1)]
    largest = [int(np.abs(noise[a:b].astype(int)).max()) for a, b in itertools.pairwise(edges)]
    expected = bytes(math.ceil(value * 255 / 32_768) for value in largest)
    assert measured(noise, iter([97] * samples)).peaks == expected


@pytest.mark.parametrize("seconds", [1.3, 15, 59.9, 600])
def test_peaks_of_long_clips_lie_where_the_sound_is(seconds: float) -> None:
    rng = np.random.default_rng(7)
    samples = round(seconds * RATE)
    envelope = np.repeat(rng.integers(1, 32_000, 400), -(-samples // 400))[:samples]
    noise = (envelope * rng.uniform(-1, 1, samples)).astype(np.int16)
    found = values(measured(noise, iter([4096] * samples)))
    length = samples / PEAKS
    slack = length / 8
    amplitude = np.abs(noise.astype(int))
    assert len(found) == PEAKS
    for part, value in enumerate(found):
        begin, end = part * length, (part + 1) * length
        inside = amplitude[math.ceil(begin + slack) : int(end - slack)].max()
        around = amplitude[max(0, int(begin - slack)) : math.ceil(end + slack)].max()
        assert math.ceil(inside * 255 / 32_768) <= value <= math.ceil(around * 255 / 32_768)


def test_no_loud_sample_is_missed_wherever_it_is() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        samples = int(rng.integers(601, 200_000))
        click = np.zeros(samples, np.int16)
        place = int(rng.integers(samples))
        click[place] = -32_768
        found = values(measured(click, iter([1024] * samples)))
        assert found.max() == 255
        assert np.count_nonzero(found) == 1
        assert abs(int(found.argmax()) - place * PEAKS / samples) <= 1.1


# --- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.5, 0.1, 0.02])
def test_levels_of_a_scaled_clip_are_scaled(speech: Samples, gain: float) -> None:
    whole, scaled = levels_of(speech), levels_of(speech * np.float32(gain))
    assert np.abs(values(scaled) - gain * values(whole)).max() <= 1.1
    assert whole.loudness_lufs is not None
    assert whole.peak_dbfs is not None
    assert scaled.loudness_lufs == pytest.approx(whole.loudness_lufs + 20 * math.log10(gain), abs=0.2)
    assert scaled.peak_dbfs == pytest.approx(whole.peak_dbfs + 20 * math.log10(gain), abs=0.1)


def test_levels_do_not_depend_on_the_size_of_the_pieces(speech: Samples) -> None:
    samples = (speech * 32_768).astype(np.int16)
    whole = levels_of(speech)
    rng = np.random.default_rng(1)
    assert measured(samples, iter([len(samples)])) == whole
    assert measured(samples, iter([1] * 1000 + [len(samples)])) == whole
    assert measured(samples, iter(rng.integers(1, 50_000, len(samples)).tolist())) == whole


def test_ten_minutes_are_measured_in_the_memory_of_a_few_seconds() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    waveform, loudness = Waveform(), Loudness()
    piece = (sine(-23, 1) * 32_768).astype(np.int16)
    for second in range(610):
        if second == 10:
            before = resident()
        waveform.feed(piece)
        loudness.feed(piece)
    assert resident() - before < 5 << 20  # FFmpeg's buffers included; the samples of ten minutes are 19 MB
    assert waveform.peaks() == bytes([math.ceil(10 ** (-23 / 20) * 255)] * PEAKS)
    assert loudness.integrated_lufs() == pytest.approx(-23, abs=0.1)


def test_measuring_starts_no_thread() -> None:
    """A host with many cores converts many clips at once, and each process has a limit on its memory."""

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = threads()
    loudness = Loudness()
    loudness.feed((sine(-23, 1) * 32_768).astype(np.int16))
    assert threads() == before


# --- what arrives ----------------------------------------------------------------------------------------------------


def hostile(kind: str, path: Path, speech: Samples, music: Samples) -> Path:
    silent = np.zeros_like(speech)
    if kind == "8 bit":
        made = wav(path, [speech], "uint8")
    elif kind == "opposite phase":
        made = wav(path, [speech, -speech])
    elif kind == "5.1":
        made = wav(path, [silent, silent, speech, silent, 0.3 * music, 0.3 * music], rate=48_000)
    elif kind == "another full scale":
        made = wav(path, [speech * 32_767], "float")
    elif kind == "clipped":
        made = wav(path, [np.clip(20 * speech, -1, 1)])
    elif kind == "silent first track":
        made = encode(path, "matroska", [("aac", silent), ("libopus", speech)])
    elif kind == "damaged":
        made = encode(path, "mp3", [("libmp3lame", speech)])
        content = bytearray(made.read_bytes())
        content[20_000:40_000] = np.random.default_rng(5).bytes(20_000)
        made.write_bytes(content)
    elif kind == "stream without length":
        made = wav(path, [speech])
        content = bytearray(made.read_bytes())
        content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
        made.write_bytes(content)
    else:
        made = encode(path, "adts", [("aac", speech)])
    return made


@pytest.mark.parametrize(
    "kind",
    [
        "8 bit", "opposite phase", "5.1", "another full scale", "clipped", "silent first track", "damaged",
        "stream without length", "adts",
    ],
)  # fmt: skip
def test_what_is_measured_is_what_is_kept(tmp_path: Path, speech: Samples, kind: str) -> None:
    music = np.resize(decode(MUSIC), len(speech))
    path = hostile(kind, tmp_path / "a.bin", speech, music)
    levels = convert_to_opus(path, tmp_path / "a.opus", max_clip_s=60).levels
    assert levels == levels_of(decode(path))
    heard = levels_of(decode(tmp_path / "a.opus"))  # as the worker measures a clip that was not measured before
    assert levels.loudness_lufs is not None
    assert heard.loudness_lufs == pytest.approx(levels.loudness_lufs, abs=1)
    assert np.corrcoef(values(heard), values(levels))[0, 1] > 0.9


def test_the_opus_file_is_the_same_with_and_without_the_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_to_opus(SPOKEN, tmp_path / "with.opus", max_clip_s=60)
    monkeypatch.setattr(LevelMeter, "watch", lambda _, pieces: pieces)
    convert_to_opus(SPOKEN, tmp_path / "without.opus", max_clip_s=60)
    assert (tmp_path / "with.opus").read_bytes() == (tmp_path / "without.opus").read_bytes()
