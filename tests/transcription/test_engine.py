"""The engine around Whisper, with a tiny model whose output is known."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from errors import ModelError, OperatorError
from system.device import Device, choose_device
from tests.transcription.scripted_whisper import FullWhisper, ScriptedWhisper, engine_on
from transcription.gate import REASONS

if TYPE_CHECKING:  # whisperx takes seconds to import: only what runs one of these tests does so
    from transcription.whisperx_engine import WhisperxTranscriber

CPU = Device("cpu", "CPU", "int8", "float32")
SAID = "Hello there, this is a test. It has two sentences."  # as conftest's
RATE = 16_000
Samples = npt.NDArray[np.float32]


def load(model: Path, *, name: str = "x", batch_size: int = 1) -> WhisperxTranscriber:
    from transcription.whisperx_engine import load_transcriber

    return load_transcriber(model, name=name, device=CPU, batch_size=batch_size)


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.float32)


def test_what_is_said_comes_out_with_times_and_quality(tiny: WhisperxTranscriber, speech: Samples) -> None:
    (transcript,) = tiny.transcribe([speech])
    assert transcript.text == SAID
    assert transcript.language == "en"
    assert transcript.language_probability is not None
    assert 0 < transcript.language_probability <= 1
    assert not transcript.no_speech
    assert transcript.no_speech_reason is None
    assert [segment.text for segment in transcript.segments] == [
        "Hello there, this is a test.",
        "It has two sentences.",
    ]
    assert 0 <= transcript.segments[0].start < transcript.segments[0].end <= transcript.segments[1].start
    assert transcript.segments[1].end <= len(speech) / RATE
    for value in (transcript.avg_logprob, transcript.no_speech_prob, transcript.compression_ratio):
        assert isinstance(value, float)
    assert transcript.segments[0].avg_logprob == transcript.avg_logprob
    assert transcript.avg_logprob is not None
    assert transcript.avg_logprob <= 0


def test_a_long_clip_goes_through_in_windows(tiny: WhisperxTranscriber, speech: Samples) -> None:
    (transcript,) = tiny.transcribe([np.tile(speech, 8)])
    count = transcript.text.count("Hello there")
    assert count > 2
    assert transcript.text == " ".join([SAID] * count)
    starts = [segment.start for segment in transcript.segments]
    assert starts == sorted(starts)


def test_clips_keep_their_places_among_clips_without_speech(tiny: WhisperxTranscriber, speech: Samples) -> None:
    clips = [silence(3), speech, silence(0), np.tile(speech, 4), silence(1), speech]
    together = tiny.transcribe(clips)
    assert [transcript.no_speech for transcript in together] == [True, False, True, False, True, False]
    assert together == [tiny.transcribe([clip])[0] for clip in clips]


def test_no_clips_no_transcripts(tiny: WhisperxTranscriber) -> None:
    assert tiny.transcribe([]) == []


def test_a_clip_without_speech_is_never_shown_to_whisper(tiny_whisper: Path) -> None:
    model = ScriptedWhisper(tiny_whisper, [])
    (transcript,) = engine_on(model).transcribe([silence(20)])
    assert model.asked == []
    assert transcript.no_speech
    assert transcript.no_speech_reason == "no-speech-found"
    assert transcript.text == ""
    assert transcript.segments == ()
    assert transcript.language is None
    assert transcript.speech_s == 0


@pytest.mark.parametrize(
    ("text", "logprob", "no_speech", "reason"),
    [
        ("Thanks for watching!", -0.9, 0.2, "phantom-phrase"),
        ("We met.", -1.5, 0.9, "not-speech"),
        ("", -0.1, 0, "no-words"),
        ("no " * 100, -0.1, 0, "repetition"),
    ],
)
def test_a_clip_with_nothing_left_behind_the_gate_has_no_speech(
    tiny_whisper: Path, speech: Samples, text: str, logprob: float, no_speech: float, reason: str
) -> None:
    model = ScriptedWhisper(tiny_whisper, [(text, logprob, no_speech)] * 2)  # a repetition is decoded twice
    (transcript,) = engine_on(model).transcribe([speech])
    assert transcript.no_speech
    assert transcript.no_speech_reason == reason
    assert reason in REASONS
    assert (transcript.text, transcript.segments, transcript.language) == ("", (), None)
    assert transcript.avg_logprob == pytest.approx(logprob)  # of the dropped window, so that it can be checked


def test_only_bad_windows_are_dropped(tiny_whisper: Path, speech: Samples) -> None:
    clip = np.concatenate([speech, silence(25), speech])
    model = ScriptedWhisper(tiny_whisper, [("We met.", -0.2, 0.01), ("Thank you.", -0.9, 0.5)])
    (transcript,) = engine_on(model).transcribe([clip])
    assert not transcript.no_speech
    assert transcript.text == "We met."
    assert transcript.avg_logprob == pytest.approx(-0.2)


def test_a_loop_is_decoded_again_with_loops_forbidden(tiny_whisper: Path, speech: Samples) -> None:
    model = ScriptedWhisper(tiny_whisper, [("I will " * 80, -0.1, 0.01), ("I will come for you.", -0.3, 0.01)])
    (transcript,) = engine_on(model).transcribe([speech])
    assert transcript.text == "I will come for you."
    first, second = (options.no_repeat_ngram_size for options in model.asked)
    assert first == 0
    assert second > 0


def test_two_threads_take_turns(tiny: WhisperxTranscriber, speech: Samples) -> None:
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(tiny.transcribe([speech])[0].text)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [SAID] * 3


# --- loading ---------------------------------------------------------------------------------------------------------


def test_the_name_is_recorded_and_a_cpus_batch_is_bounded(tiny_whisper: Path) -> None:
    from transcription.whisperx_engine import MAX_CPU_BATCH

    engine = load(tiny_whisper, name="large-v3", batch_size=64)
    assert engine.name == "large-v3"
    assert engine._batch_size == MAX_CPU_BATCH
    engine.close()


@pytest.mark.parametrize("file", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
def test_a_missing_file_is_named_with_the_command_that_brings_it(tiny_whisper: Path, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_whisper, folder)
    (folder / file).unlink()
    with pytest.raises(ModelError, match="python -m models fetch") as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert file in str(caught.value)


@pytest.mark.parametrize("file", ["model.bin", "tokenizer.json"])
def test_a_damaged_file_is_a_model_error(tiny_whisper: Path, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_whisper, folder)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        load(folder)


def test_out_of_memory_tells_what_to_turn(tiny_whisper: Path, speech: Samples) -> None:
    with pytest.raises(OperatorError, match="reduce BATCH_SIZE"):
        engine_on(FullWhisper(tiny_whisper, [])).transcribe([speech])


# --- the device ------------------------------------------------------------------------------------------------------


def test_auto_and_cpu_find_a_device() -> None:
    assert choose_device("cpu").name == "cpu"
    assert choose_device("cpu").compute_type == "int8"
    assert choose_device("auto").name in {"cpu", "cuda"}


def test_cuda_without_cuda_is_the_operators_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OperatorError, match="DEVICE is cuda"):
        choose_device("cuda")
    assert choose_device("auto").name == "cpu"
