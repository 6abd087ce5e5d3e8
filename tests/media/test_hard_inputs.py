"""Difficult clips: channels that cancel, silent tracks, other bytes before the sound, damage, invalid sample values."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from errors import AudioError
from media.audio import MIN_CLIP_S, ConvertedClip, convert_to_opus, decode

RATE = 16_000
SPOKEN = Path(__file__).resolve().parents[2] / "local/samples/clips/rustbolt77_7518830412.mp3"
MUSIC = SPOKEN.with_name("loopfactory_7518838011.mp3")

Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def speech() -> Samples:
    return decode(SPOKEN)[: 10 * RATE]


@pytest.fixture(scope="module")
def music() -> Samples:
    return np.resize(decode(MUSIC), 10 * RATE)


def wav(path: Path, channels: Sequence[npt.NDArray[np.floating]], kind: str = "int16", rate: int = RATE) -> Path:
    samples = np.stack(channels, axis=1)
    if kind == "int16":
        tag, data = 1, np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    elif kind == "uint8":
        tag, data = 1, (np.rint(samples * 127) + 128).astype("u1")
    elif kind == "int24":
        tag, data = 1, np.rint(samples * 8388607).astype("<i4").view("u1").reshape(len(samples), -1, 4)[:, :, :3]
    else:
        tag, data = 3, samples.astype("<f4")
    content = data.tobytes()
    width = len(content) // samples.size
    count = samples.shape[1]
    form = struct.pack("<HHIIHH", tag, count, rate, rate * count * width, count * width, 8 * width)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", 36 + len(content)) + b"WAVEfmt \x10\0\0\0" + form
        + b"data" + struct.pack("<I", len(content)) + content
    )  # fmt: skip
    return path


def encode(path: Path, container_format: str, tracks: Sequence[tuple[str, Samples]], **options: str) -> Path:
    """One track per (codec, samples at 16 kHz)."""
    with av.open(path, "w", format=container_format, options=options) as container:
        streams = [container.add_stream(codec, rate=48_000) for codec, _ in tracks]
        for stream in streams:
            stream.layout = "stereo"
        for stream, (_, samples) in zip(streams, tracks, strict=True):
            resampler = AudioResampler(format=stream.format, layout="stereo", rate=48_000)
            source = AudioFrame.from_ndarray(samples[np.newaxis, :], format="fltp", layout="mono")
            source.sample_rate = RATE
            source.pts, source.time_base = 0, Fraction(1, RATE)
            for frame in [*resampler.resample(source), *resampler.resample(None), None]:
                container.mux(stream.encode(frame))
    return path


def converted(path: Path) -> tuple[ConvertedClip, Samples]:
    target = path.parent / "target.opus"
    clip = convert_to_opus(path, target, max_clip_s=60)
    return clip, decode(target)


def likeness(heard: Samples, meant: Samples) -> float:
    """How similar the spectra of two clips are over time; 1 for equal clips."""

    def picture(samples: Samples) -> npt.NDArray[np.float64]:
        frames = samples[: len(samples) // 512 * 512].reshape(-1, 512) * np.hanning(512)
        return np.log10(np.abs(np.fft.rfft(frames))[:, 8:128] + 1e-3).ravel()

    least = min(len(heard), len(meant))
    return float(np.corrcoef(picture(heard[:least]), picture(meant[:least]))[0, 1])


# --- channels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, pytest.param(0.95, marks=pytest.mark.thorough), 0.9])
def test_speech_in_opposite_phase_is_kept_and_noted(tmp_path: Path, speech: Samples, share: float) -> None:
    clip, heard = converted(wav(tmp_path / "a.wav", [speech, -share * speech]))
    assert likeness(heard, speech) > 0.9
    assert np.std(heard) > 0.8 * np.std(speech)
    assert "channels cancel each other for 10.0 s" in clip.notes[0]


@pytest.mark.parametrize("begin_s", [5.0, pytest.param(9.0, marks=pytest.mark.thorough)])
def test_polarity_that_changes_in_mid_clip_loses_nothing(tmp_path: Path, speech: Samples, begin_s: float) -> None:
    right = np.where(np.arange(len(speech)) < begin_s * RATE, speech, -speech)
    clip, heard = converted(wav(tmp_path / "a.wav", [speech, right]))
    assert likeness(heard, speech) > 0.9
    assert "channels cancel" in clip.notes[0]


def test_speech_in_opposite_phase_under_music_in_phase_is_kept(tmp_path: Path, speech: Samples, music: Samples) -> None:
    quiet = 0.4 * music
    clip, heard = converted(wav(tmp_path / "a.wav", [quiet + speech, quiet - speech]))
    assert likeness(heard, quiet + speech) > likeness(heard, quiet) + 0.1
    assert "channels cancel" in clip.notes[0]


def test_a_voice_of_its_own_on_each_side_over_a_cancelled_one_is_kept(
    tmp_path: Path, speech: Samples, music: Samples
) -> None:
    _, heard = converted(wav(tmp_path / "a.wav", [0.1 * music + speech, -speech]))
    assert likeness(heard, speech) > 0.8


@pytest.mark.parametrize("place", [2, 3, *(pytest.param(place, marks=pytest.mark.thorough) for place in (0, 1, 4, 5))])
def test_speech_in_any_one_of_six_channels_is_kept(tmp_path: Path, speech: Samples, place: int) -> None:
    silent = np.zeros_like(speech)
    _, heard = converted(wav(tmp_path / "a.wav", [speech if n == place else silent for n in range(6)]))
    assert np.std(heard) > 0.1 * np.std(speech)


def plain_mix(path: Path) -> Samples:
    """The plain mix by FFmpeg, as in Whisper's loader."""
    resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
    pieces = []
    with av.open(path) as container:
        for frame in container.decode(audio=0):
            frame.pts = None
            pieces += [out.to_ndarray().reshape(-1) for out in resampler.resample(frame)]
    pieces += [out.to_ndarray().reshape(-1) for out in resampler.resample(None)]
    return np.concatenate(pieces).astype(np.float32) / np.float32(32768)


@pytest.mark.parametrize("kind", ["same", "one side", "apart", "noise", "delayed", "weaker", "six"])
def test_channels_that_do_not_cancel_are_mixed_as_ever(
    tmp_path: Path, speech: Samples, music: Samples, kind: str
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((6, len(speech)))
    channels = {
        "same": [speech, speech],
        "one side": [speech, np.zeros_like(speech)],
        "apart": [speech, music],
        "noise": [noise[0], noise[1]],
        "delayed": [speech, np.roll(speech, 240)],
        "weaker": [speech, 0.2 * speech],
        "six": list(noise),
    }[kind]
    path = wav(tmp_path / "a.wav", channels, rate=44_100)
    np.testing.assert_array_equal(decode(path), plain_mix(path))
    assert converted(path)[0].notes == ()


@pytest.mark.thorough
def test_the_sample_clips_are_mixed_as_ever_and_get_no_notes(tmp_path: Path) -> None:
    for path in sorted(SPOKEN.parent.glob("*.mp3"))[:8]:
        try:
            samples = decode(path)
        except AudioError:
            continue
        np.testing.assert_array_equal(samples, plain_mix(path))
        assert convert_to_opus(path, tmp_path / "x.opus", max_clip_s=600).notes == ()


# --- tracks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pytest.param("ipod", marks=pytest.mark.thorough), "matroska"])
def test_a_silent_first_track_does_not_hide_the_second(tmp_path: Path, speech: Samples, kind: str) -> None:
    path = encode(tmp_path / "a.mp4", kind, [("aac", np.zeros_like(speech)), ("aac", speech)])
    clip, heard = converted(path)
    assert likeness(heard, speech) > 0.9
    assert clip.notes == ("of 2 audio tracks, track 2 is used",)


def test_a_click_in_the_first_track_does_not_hide_the_second(tmp_path: Path, speech: Samples) -> None:
    click = np.zeros_like(speech)
    click[RATE : RATE + 800] = 0.5
    clip, _ = converted(encode(tmp_path / "a.mkv", "matroska", [("aac", click), ("libopus", speech)]))
    assert clip.notes == ("of 2 audio tracks, track 2 is used; track 1 also holds sound and is not kept",)


def test_of_two_tracks_with_sound_the_first_is_kept_and_the_other_named(
    tmp_path: Path, speech: Samples, music: Samples
) -> None:
    clip, heard = converted(encode(tmp_path / "a.mkv", "matroska", [("aac", speech), ("libopus", music)]))
    assert likeness(heard, speech) > 0.9
    assert clip.notes == ("of 2 audio tracks, track 1 is used; track 2 also holds sound and is not kept",)


def test_a_first_track_that_cannot_be_decoded_does_not_hide_the_second(tmp_path: Path, speech: Samples) -> None:
    path = encode(tmp_path / "a.mkv", "matroska", [("aac", speech), ("libopus", speech)])
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_XYZ", 1))
    clip, heard = converted(path)
    assert clip.source_format == "matroska/opus"
    assert likeness(heard, speech) > 0.9
    assert clip.notes == ("of 2 audio tracks, track 2 is used",)


# --- junk and damage -------------------------------------------------------------------------------------------------


JUNK = [(kind, size) for kind in ("mp3", "adts") for size in (1000, 100_000, 1 << 20, 3 << 20)]
GATED = {("mp3", 1 << 20), ("adts", 100_000)}


@pytest.mark.parametrize(
    ("kind", "size"), [pytest.param(*case, marks=[] if case in GATED else pytest.mark.thorough) for case in JUNK]
)
def test_sound_behind_junk_is_kept(tmp_path: Path, speech: Samples, kind: str, size: int) -> None:
    path = encode(tmp_path / "a.mp3", kind, [("libmp3lame" if kind == "mp3" else "aac", speech)])
    path.write_bytes(np.random.default_rng(5).bytes(size) + path.read_bytes())
    clip, _ = converted(path)
    assert clip.duration_s == pytest.approx(10, abs=0.5)
    assert size == 1000 or "left out" in clip.notes[0]


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(4, 24))]
)
def test_random_bytes_never_become_a_clip(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(np.random.default_rng(seed).bytes([3000, 50_000, 400_000, 1_500_000][seed % 4]))
    with pytest.raises(AudioError):
        convert_to_opus(path, tmp_path / "x.opus", max_clip_s=60)


@pytest.mark.parametrize("head", [b"%PDF-1.7\n", b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"PK\x03\x04", b"<html>404"])
@pytest.mark.parametrize("body", [bytes(50_000), b"some words " * 9000, np.random.default_rng(9).bytes(900_000)])
def test_other_files_with_the_name_of_a_clip_never_become_one(tmp_path: Path, head: bytes, body: bytes) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(head + body)
    with pytest.raises(AudioError):
        convert_to_opus(path, tmp_path / "x.opus", max_clip_s=60)


KINDS = {
    "mp3": ("mp3", "libmp3lame"),
    "m4a": ("ipod", "aac"),
    "mkv": ("matroska", "aac"),
    "webm": ("webm", "libopus"),
    "flac": ("flac", "flac"),
    "wav": ("wav", "pcm_s16le"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_that_is_cut_off_is_kept_with_a_note_on_how_much(tmp_path: Path, speech: Samples, kind: str) -> None:
    container_format, codec = KINDS[kind]
    options = {"movflags": "faststart"} if kind == "m4a" else {}
    path = encode(tmp_path / f"a.{kind}", container_format, [(codec, speech)], **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    clip, _ = converted(path)
    assert 4 < clip.duration_s < 8
    assert "the header says 10.0 s, but only" in clip.notes[-1]


@pytest.mark.parametrize("kind", ["mp3", "m4a", "mkv", "webm", "flac"])
def test_a_clip_that_is_damaged_in_the_middle_is_kept_with_a_note(tmp_path: Path, speech: Samples, kind: str) -> None:
    container_format, codec = KINDS[kind]
    options = {"movflags": "faststart"} if kind == "m4a" else {}
    path = encode(tmp_path / f"a.{kind}", container_format, [(codec, speech)], **options)
    content = bytearray(path.read_bytes())
    begin, end = len(content) * 4 // 10, len(content) * 7 // 10
    content[begin:end] = np.random.default_rng(5).bytes(end - begin)
    path.write_bytes(content)
    clip, _ = converted(path)
    assert clip.duration_s > 3
    assert any("the header says 10.0 s" in note for note in clip.notes)


def test_an_ogg_whose_second_part_cannot_be_read_keeps_the_first(tmp_path: Path, speech: Samples) -> None:
    one = encode(tmp_path / "1.ogg", "ogg", [("libopus", speech)]).read_bytes()
    with av.open(tmp_path / "2.ogg", "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48_000)
        stream.layout = "mono"
        frame = AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="flt", layout="mono")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    path = tmp_path / "a.ogg"
    path.write_bytes(one + (tmp_path / "2.ogg").read_bytes())
    clip, heard = converted(path)
    assert likeness(heard, speech) > 0.9
    assert any("cannot be read to its end" in note for note in clip.notes)


# --- lengths and numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rate", [16_000, pytest.param(8_000, marks=pytest.mark.thorough), pytest.param(44_100, marks=pytest.mark.thorough)]
)
def test_clips_of_any_few_samples_end_alike(tmp_path: Path, speech: Samples, rate: int) -> None:
    """Clips below the shortest length are refused; all others become an Opus file that decodes."""
    for count in [*range(1, 40), *range(40, int(0.15 * rate), 97)]:
        path = wav(tmp_path / "a.wav", [speech[RATE : RATE + count]], rate=rate)
        if count < MIN_CLIP_S * rate - 2:
            with pytest.raises(AudioError, match=r"too short|no audio samples"):
                converted(path)
        elif count > MIN_CLIP_S * rate + 2:
            clip, heard = converted(path)
            assert len(heard) == round(clip.duration_s * RATE) >= MIN_CLIP_S * RATE


@pytest.mark.parametrize("kind", ["uint8", "int24", "float"])
def test_every_width_of_sample_is_read(tmp_path: Path, speech: Samples, kind: str) -> None:
    clip, heard = converted(wav(tmp_path / "a.wav", [speech], kind))
    assert np.std(heard) == pytest.approx(np.std(speech), rel=0.05)
    assert clip.notes == ()


def test_samples_that_are_no_numbers_become_silence(tmp_path: Path, speech: Samples) -> None:
    broken = speech.copy()
    broken[1000:1010], broken[2000], broken[3000] = np.nan, np.inf, 1e30
    clip, heard = converted(wav(tmp_path / "a.wav", [broken], "float"))
    assert likeness(heard, speech) > 0.9
    assert clip.notes == ("11 samples are not numbers and are replaced by silence",)


@pytest.mark.parametrize("scale", [32767.0, 1e30])
def test_floats_of_another_scale_are_scaled_down(tmp_path: Path, speech: Samples, scale: float) -> None:
    clip, heard = converted(wav(tmp_path / "a.wav", [speech * scale], "float"))
    assert likeness(heard, speech) > 0.9
    assert "scaled down" in clip.notes[0]


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_a_wav_header_of_a_stream_without_length_is_read(tmp_path: Path, speech: Samples, length: int) -> None:
    path = wav(tmp_path / "a.wav", [speech])
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", length)
    path.write_bytes(content)
    clip, _ = converted(path)
    assert (clip.duration_s, clip.notes) == (10.0, ())
