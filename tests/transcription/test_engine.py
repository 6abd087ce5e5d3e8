"""The engine around Whisper, with a tiny model whose output is known."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from errors import DeviceMemoryError, ModelError, OperatorError
from system.device import Device, choose_device
from tests.transcription.scripted_whisper import Said, ScriptedWhisper, engine_on
from transcription.gate import REASONS

if TYPE_CHECKING:  # whisperx takes seconds to import: only what runs one of these tests does so
    from transcription.whisperx_engine import WhisperxTranscriber

CPU = Device("cpu", "CPU", "int8", "float32")
SAID = "Hello there, this is a test. It has two sentences."  # as conftest's
RATE = 16_000
Samples = npt.NDArray[np.float32]


def load(model: Path, *, name: str = "x", batch_size: int = 1) -> WhisperxTranscriber:
    from transcription.loading import load_transcriber

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


def test_a_clip_without_speech_is_never_shown_to_whisper() -> None:
    model = ScriptedWhisper([])
    (transcript,) = engine_on(model).transcribe([silence(20)])
    assert model.asked == []
    assert transcript.no_speech
    assert transcript.no_speech_reason == "no-speech-found"
    assert transcript.text == ""
    assert transcript.segments == ()
    assert transcript.windows == ()
    assert transcript.language is None
    assert transcript.speech_s == 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Said("Thanks for watching!", -0.9, 0.2), "phantom-phrase"),
        (Said("We met.", -1.5, 0.9), "unsure-text"),
        (Said(""), "no-words"),
    ],
)
def test_a_clip_with_nothing_left_behind_the_gate_has_no_speech(speech: Samples, said: Said, reason: str) -> None:
    (transcript,) = engine_on(ScriptedWhisper([said] * 2)).transcribe([speech])
    assert transcript.no_speech
    assert transcript.no_speech_reason == reason
    assert reason in REASONS
    assert (transcript.text, transcript.segments, transcript.language) == ("", (), None)
    assert transcript.avg_logprob == pytest.approx(said.avg_logprob)  # of the dropped window, so that it can be checked


def test_a_dropped_window_leaves_its_values_and_its_reasons(speech: Samples) -> None:
    clip = np.concatenate([speech, speech, silence(25), speech])
    model = ScriptedWhisper([Said("We met.", -0.2), *[Said("Thank you.", -0.9, 0.5)] * 2])
    (transcript,) = engine_on(model).transcribe([clip])
    assert transcript.text == "We met."
    assert transcript.avg_logprob == pytest.approx(-0.2)
    kept, dropped = transcript.windows
    assert (kept.finding, kept.reasons, kept.text) == ("speech", (), "We met.")
    assert (dropped.finding, dropped.text, dropped.no_speech_prob) == ("no_speech", "Thank you.", 0.5)
    assert dropped.reasons[0] == "phantom-phrase"
    assert dropped.start > kept.end + 20
    assert transcript.finding == "doubtful"  # a third of its speech has no text
    assert transcript.reasons == ("dropped-window",)


def test_speech_after_the_text_is_decoded_as_a_window_of_its_own(speech: Samples) -> None:
    clip = np.tile(speech, 2)[: 25 * RATE]
    model = ScriptedWhisper([Said("The first half.", end=9.0), Said("The second half.")])
    (transcript,) = engine_on(model).transcribe([clip])
    assert transcript.text == "The first half. The second half."
    first, second = transcript.windows
    assert second.start == pytest.approx(first.start + 9.0, abs=1.0)
    assert second.end == first.end
    assert transcript.segments[0].end <= transcript.segments[1].start + 0.2
    assert transcript.finding == "speech"


def test_speech_that_never_gets_a_text_is_not_decoded_for_ever(speech: Samples) -> None:
    short = [Said(f"Part {number}.", end=2.0) for number in range(10)]
    model = ScriptedWhisper(short)
    (transcript,) = engine_on(model).transcribe([np.tile(speech, 2)[: 25 * RATE]])
    assert len(model.asked) <= 4
    assert transcript.finding == "doubtful"
    assert "uncovered-speech" in transcript.reasons


def test_few_words_for_much_speech_are_decoded_again_in_halves(speech: Samples) -> None:
    clip = np.tile(speech, 2)[: 25 * RATE]
    model = ScriptedWhisper(
        [Said("Once.", tokens=3), Said("Once upon a time.", tokens=40), Said("In town.", tokens=40)]
    )
    (transcript,) = engine_on(model).transcribe([clip])
    assert transcript.text == "Once upon a time. In town."
    assert len(transcript.windows) == 2
    assert transcript.finding == "speech"


def test_a_window_whose_halves_have_no_more_words_stays_and_is_doubtful(speech: Samples) -> None:
    model = ScriptedWhisper([Said("Once.", tokens=3)] + [Said("", tokens=0)] * 20)
    (transcript,) = engine_on(model).transcribe([speech])
    assert transcript.text == "Once."
    assert (transcript.finding, transcript.reasons) == ("doubtful", ("few-words",))


def test_a_loop_is_decoded_again_with_loops_forbidden(speech: Samples) -> None:
    loop = Said("I will " * 80, tokens=160)
    other = Said("I will come for you tonight and nobody can find your little dog.", -0.2)
    model = ScriptedWhisper([loop, loop, other])
    (transcript,) = engine_on(model).transcribe([speech])
    assert transcript.text == other.text
    assert [asked.way for asked in model.asked] == ["greedy", "plain", "no_repeats"]
    assert transcript.windows[0].decoding == "no_repeats"


def test_a_window_of_which_the_model_is_unsure_is_decoded_with_a_beam(speech: Samples) -> None:
    model = ScriptedWhisper([Said("I whale come.", -0.6), Said("I will come.", -0.4)])
    (transcript,) = engine_on(model).transcribe([speech])
    assert transcript.text == "I will come."
    assert [asked.way for asked in model.asked] == ["greedy", "plain"]
    assert model.encoded == [1]  # the beam has the same input


def test_a_window_in_another_language_is_decoded_in_its_own(speech: Samples) -> None:
    clip = np.concatenate([speech, speech, silence(15), speech])
    english, spanish = {"en": 0.99, "es": 0.01}, {"es": 0.98, "en": 0.01}
    model = ScriptedWhisper([Said("Good evening.", languages=english), Said("Buenas noches.", languages=spanish)])
    (transcript,) = engine_on(model, batch_size=1).transcribe([clip])
    assert [asked.languages for asked in model.asked] == [("en",), ("es",)]
    assert [window.language for window in transcript.windows] == ["en", "es"]
    assert transcript.language == "en"
    assert (transcript.finding, transcript.reasons) == ("doubtful", ("mixed-languages",))


def test_a_translation_stands_beside_the_text(speech: Samples) -> None:
    spanish = {"es": 0.98, "en": 0.01}
    model = ScriptedWhisper([Said("Buenas noches.", languages=spanish), Said("Good evening.")])
    (transcript,) = engine_on(model, translated_except={"en"}).transcribe([speech])
    assert transcript.text == "Buenas noches."
    assert transcript.translation == "Good evening."
    assert [asked.task for asked in model.asked] == ["transcribe", "translate"]


def test_a_clip_in_a_language_that_needs_no_translation_gets_none(speech: Samples) -> None:
    (transcript,) = engine_on(ScriptedWhisper([Said("Good evening.")]), translated_except={"en"}).transcribe([speech])
    assert transcript.translation is None


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_is_halved_and_the_size_is_kept(speech: Samples) -> None:
    model = ScriptedWhisper([Said(f"Clip {number}.") for number in range(16)], most=2)
    engine = engine_on(model, batch_size=8)
    texts = [transcript.text for transcript in engine.transcribe([speech] * 8)]
    assert texts == [f"Clip {number}." for number in range(8)]
    assert model.encoded == [8, 4, 2, 2, 2, 2]
    engine.transcribe([speech] * 4)
    assert model.encoded[6:] == [2, 2]


def test_a_window_that_does_not_fit_alone_says_what_helps(speech: Samples) -> None:
    with pytest.raises(DeviceMemoryError, match="SPEECH_COMPUTE_TYPE") as caught:
        engine_on(ScriptedWhisper([Said("x")], most=0)).transcribe([speech])
    assert "BATCH_SIZE" not in str(caught.value)


# --- several callers -------------------------------------------------------------------------------------------------


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
    from transcription.loading import MAX_CPU_BATCH

    engine = load(tiny_whisper, name="large-v3", batch_size=64)
    assert engine.name == "large-v3"
    assert engine.batch_size == MAX_CPU_BATCH
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
