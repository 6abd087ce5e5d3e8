"""Which audio files are read, which are refused, and with which message."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from errors import AudioError, OperatorError
from media import source as audio_source
from media.audio import convert_to_opus, decode, probe

MakeAudio = Callable[..., Path]
SAMPLE_RATE = 16_000


def refused(path: Path, tmp_path: Path, *, max_clip_s: float = 60) -> str:
    """Convert a file that must be refused -> the error sentence. No file may be left behind."""
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    with pytest.raises(AudioError) as caught:
        convert_to_opus(path, folder / "x.opus", max_clip_s=max_clip_s)
    assert list(folder.iterdir()) == []
    assert path.name in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "source_format"),
    [
        ("mp3", "mp3/mp3float"),
        ("wav", "wav/pcm_s16le"),
        ("flac", "flac/flac"),
        ("m4a", "mov/aac"),
        ("ogg", "ogg/opus"),
        ("webm", "matroska/opus"),
    ],
)
def test_what_phones_and_platforms_write_is_read_whatever_its_extension(
    make_audio: MakeAudio, tmp_path: Path, kind: str, source_format: str
) -> None:
    source = make_audio("clip.txt", kind)
    info = probe(source)
    assert info.source_format == source_format
    assert info.channels == 2
    assert info.duration_s == pytest.approx(2.0, abs=0.1)

    clip = convert_to_opus(source, tmp_path / "clip.opus", max_clip_s=60)
    assert clip.duration_s == pytest.approx(2.0, abs=0.06)  # AAC pads to whole frames
    assert clip.source_format == source_format
    assert clip.source_bytes == source.stat().st_size
    assert clip.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert clip.damaged_packets == 0


def test_the_result_is_opus_16_khz_mono_at_32_kbit(make_audio: MakeAudio, tmp_path: Path) -> None:
    target = tmp_path / "clip.opus"
    convert_to_opus(make_audio("clip.mp3", seconds=10), target, max_clip_s=60)
    head = target.read_bytes()[:64]
    assert head[:4] == b"OggS"
    opus_head = head[head.index(b"OpusHead") :]
    assert opus_head[9] == 1  # channels
    assert int.from_bytes(opus_head[12:16], "little") == SAMPLE_RATE
    assert 20_000 < target.stat().st_size * 8 / 10 < 40_000
    samples = decode(target)
    assert samples.shape == (10 * SAMPLE_RATE,)
    spectrum = np.abs(np.fft.rfft(samples[:SAMPLE_RATE]))
    assert int(spectrum.argmax()) == 440  # the tone has kept its pitch


def test_the_same_clip_gives_the_same_bytes(make_audio: MakeAudio, tmp_path: Path) -> None:
    source = make_audio("clip.mp3")
    for name in ("a.opus", "b.opus"):
        convert_to_opus(source, tmp_path / name, max_clip_s=60)
    assert (tmp_path / "a.opus").read_bytes() == (tmp_path / "b.opus").read_bytes()


def test_tags_of_the_upload_do_not_travel_on(tmp_path: Path) -> None:
    path = tmp_path / "tagged.flac"
    with av.open(path, "w", format="flac") as container:
        container.metadata["title"] = "PRIVATE NAME"
        stream = container.add_stream("flac", rate=SAMPLE_RATE)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, SAMPLE_RATE), np.int16), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert b"PRIVATE NAME" in path.read_bytes()
    convert_to_opus(path, tmp_path / "x.opus", max_clip_s=60)
    assert b"PRIVATE NAME" not in (tmp_path / "x.opus").read_bytes()


@pytest.mark.parametrize("rate", [1_000, 8_000, 44_100, 96_000, 192_000])
def test_any_sample_rate_becomes_16_khz(make_audio: MakeAudio, rate: int) -> None:
    samples = decode(make_audio("clip.wav", rate=rate, seconds=1.0))
    assert samples.shape[0] == pytest.approx(SAMPLE_RATE, abs=32)
    assert samples.dtype == np.float32


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1"])
def test_any_number_of_channels_becomes_one(make_audio: MakeAudio, layout: str) -> None:
    samples = decode(make_audio("clip.wav", layout=layout))
    assert samples.ndim == 1
    assert 0.02 < np.abs(samples).max() < 1.0


def test_eight_channels_without_a_layout_are_read(tmp_path: Path) -> None:
    """A WAV header that names no loudspeakers."""
    frames = np.tile((8000 * np.sin(np.arange(SAMPLE_RATE) / 5)).astype("<i2")[:, None], 8)
    data = frames.tobytes()
    header = b"RIFF" + (36 + len(data)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    header += b"\x01\x00\x08\x00" + SAMPLE_RATE.to_bytes(4, "little") + (SAMPLE_RATE * 16).to_bytes(4, "little")
    header += b"\x10\x00\x10\x00data" + len(data).to_bytes(4, "little")
    path = tmp_path / "eight.wav"
    path.write_bytes(header + data)
    assert decode(path).shape == (SAMPLE_RATE,)


def test_decoding_16_bit_speech_at_16_khz_changes_no_sample(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32767, SAMPLE_RATE, dtype=np.int16)
    path = tmp_path / "clip.wav"
    with av.open(path, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    np.testing.assert_array_equal(decode(path), samples.astype(np.float32) / 32768)


def test_a_chained_stream_that_changes_its_rate_is_read_to_its_end(make_audio: MakeAudio, tmp_path: Path) -> None:
    parts = [make_audio("a.mp3", rate=44_100).read_bytes(), make_audio("b.mp3", rate=22_050).read_bytes()]
    both = tmp_path / "both.mp3"
    both.write_bytes(b"".join(parts))
    assert decode(both).shape[0] == pytest.approx(4 * SAMPLE_RATE, abs=3000)


# --- damage ----------------------------------------------------------------------------------------------------------


def _scratched(path: Path, every: int, length: int) -> Path:
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(1)
    for start in range(4000, len(content) - 4000, every):
        content[start : start + length] = noise.bytes(length)
    path.write_bytes(content)
    return path


def test_a_few_damaged_packets_are_skipped_and_counted(make_audio: MakeAudio, tmp_path: Path) -> None:
    source = _scratched(make_audio("clip.mp3", seconds=8.0), every=12_000, length=300)
    clip = convert_to_opus(source, tmp_path / "x.opus", max_clip_s=60)
    assert clip.damaged_packets > 0
    assert clip.duration_s > 6


def test_a_clip_that_is_damaged_throughout_is_refused(make_audio: MakeAudio, tmp_path: Path) -> None:
    source = _scratched(make_audio("clip.mp3", seconds=8.0), every=700, length=500)
    assert "is damaged throughout" in refused(source, tmp_path)


def test_a_cut_off_mp3_is_kept_as_far_as_it_goes(make_audio: MakeAudio, tmp_path: Path) -> None:
    source = make_audio("clip.mp3", seconds=4.0)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    assert convert_to_opus(source, tmp_path / "x.opus", max_clip_s=60).duration_s == pytest.approx(2.0, abs=0.2)


def test_an_mp4_whose_index_never_arrived_is_named_so(make_audio: MakeAudio, tmp_path: Path) -> None:
    source = make_audio("clip.m4a")
    source.write_bytes(source.read_bytes()[:8000])
    assert "the file ends early: the index (moov)" in refused(source, tmp_path)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "webm"])
def test_a_header_that_is_cut_off_is_named_so(make_audio: MakeAudio, tmp_path: Path, kind: str) -> None:
    source = make_audio(f"clip.{kind}")
    source.write_bytes(source.read_bytes()[:32])
    assert "its header is damaged or the file ends early" in refused(source, tmp_path)


# --- no audio --------------------------------------------------------------------------------------------------------


def test_an_empty_file_is_named_so(tmp_path: Path) -> None:
    (tmp_path / "clip.mp3").touch()
    assert "is empty" in refused(tmp_path / "clip.mp3", tmp_path)


def test_a_missing_file_is_named_so(tmp_path: Path) -> None:
    assert "there is no such regular file" in refused(tmp_path / "clip.mp3", tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp3")
    assert "no such regular file" in refused(tmp_path / "clip.mp3", tmp_path)


@pytest.mark.parametrize(
    "content", [b"just some text\n" * 500, b"%PDF-1.7\n" + bytes(5000), b"PK\x03\x04" + bytes(500)]
)
def test_what_is_no_audio_is_named_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.mp3").write_bytes(content)
    assert "has none of the accepted audio formats" in refused(tmp_path / "clip.mp3", tmp_path)


def test_noise_that_looks_like_mp3_holds_no_samples(tmp_path: Path) -> None:
    (tmp_path / "clip.mp3").write_bytes(np.random.default_rng(0).bytes(100_000))
    said = refused(tmp_path / "clip.mp3", tmp_path)
    assert any(words in said for words in ("no audio samples", "damaged throughout", "cannot be read"))


def test_a_video_without_sound_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "has no audio stream; it holds only video" in refused(path, tmp_path)


def test_a_header_without_a_sample_is_refused(make_audio: MakeAudio, tmp_path: Path) -> None:
    source = make_audio("clip.wav", seconds=1.0)
    content = source.read_bytes()
    source.write_bytes(content[: content.index(b"data") + 8])
    assert any(words in refused(source, tmp_path) for words in ("no audio samples", "ends early"))


def test_a_codec_that_is_not_listed_is_named(
    make_audio: MakeAudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_source, "_CODECS", frozenset({"aac"}))
    assert "uses the codec mp3float, which is not supported" in refused(make_audio("clip.mp3"), tmp_path)


def test_a_clip_that_is_too_long_is_refused(make_audio: MakeAudio, tmp_path: Path) -> None:
    source = make_audio("clip.mp3", seconds=3.0)
    assert "longer than 2.5 s, the limit" in refused(source, tmp_path, max_clip_s=2.5)
    with pytest.raises(AudioError, match="longer"):
        decode(source, max_clip_s=2.5)
    assert decode(source, max_clip_s=3.5).shape[0] == pytest.approx(3 * SAMPLE_RATE, abs=200)


# --- files that point to other files ---------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine that records the requests."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


POINTERS = {
    "HLS playlist": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{there}\n#EXT-X-ENDLIST\n",
    "concat script": "ffconcat version 1.0\nfile '{there}'\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "DASH manifest": "<?xml version='1.0'?>\n<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period><BaseURL>{there}"
    "</BaseURL></Period></MPD>\n",
    "reference": "rtmp://{there}\n",
}


@pytest.mark.parametrize("kind", POINTERS)
def test_a_file_that_points_elsewhere_reaches_neither_disk_nor_network(
    make_audio: MakeAudio, tmp_path: Path, listener: tuple[str, list[str]], kind: str
) -> None:
    secret = make_audio("secret.wav")
    address, asked = listener
    for number, there in enumerate((str(secret), secret.name, f"file:{secret}", f"{address}/x.ts")):
        clip = tmp_path / f"clip{number}.mp3"
        clip.write_text(POINTERS[kind].format(there=there))
        assert "has none of the accepted audio formats" in refused(clip, tmp_path)
    assert asked == []


def test_ffmpeg_would_follow_such_a_file_if_it_were_let(make_audio: MakeAudio, tmp_path: Path) -> None:
    """The protection is needed: without it, FFmpeg opens other files, although it gets an open file object."""
    make_audio("secret.wav")
    script = tmp_path / "clip.mp3"
    script.write_text("ffconcat version 1.0\nfile secret.wav\n")
    with script.open("rb") as file, av.open(file, "r") as container:
        assert container.format.name == "concat"


def test_even_an_accepted_container_may_open_no_second_file() -> None:
    with pytest.raises(PermissionError):
        audio_source._refuse_further_files("/etc/passwd", 1, {})


# --- the target ------------------------------------------------------------------------------------------------------


def test_a_target_that_cannot_be_written_is_the_operators_matter(make_audio: MakeAudio, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be written"):
        convert_to_opus(make_audio("clip.mp3"), tmp_path / "missing" / "x.opus", max_clip_s=60)


def test_a_full_disk_leaves_the_old_target_and_no_scraps(
    make_audio: MakeAudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "x.opus"
    target.write_bytes(b"old")
    source = make_audio("clip.mp3")
    monkeypatch.setattr(Path, "replace", _disk_full)
    with pytest.raises(OperatorError, match="No space left"):
        convert_to_opus(source, target, max_clip_s=60)
    assert [path.name for path in folder.iterdir()] == ["x.opus"]
    assert target.read_bytes() == b"old"


def _disk_full(*_: object) -> None:
    raise OSError(28, os.strerror(28))


def test_a_hostile_name_cannot_break_the_log_line(tmp_path: Path) -> None:
    clip = tmp_path / "a\nERROR forged\x1b[2J.mp3"
    clip.write_bytes(b"x" * 100)
    with pytest.raises(AudioError) as caught:
        probe(clip)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
