"""Whisper base on speech that clips are full of: sped up, said again and again, far away, half in another language."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import av
import av.filter
import numpy as np
import numpy.typing as npt
import pytest

if TYPE_CHECKING:
    from transcription.whisperx_engine import WhisperxTranscriber

RATE = 16_000
Samples = npt.NDArray[np.float32]


def words(text: str) -> list[str]:
    return re.sub(r"[^\w' ]", " ", text.lower().replace("-", " ")).split()


def faster(samples: Samples, speed: float) -> Samples:
    """Played faster at the same pitch, as platforms do."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE, format="flt", layout="mono", time_base=f"1/{RATE}")
    tempo, sink = graph.add("atempo", str(speed)), graph.add("abuffersink")
    source.link_to(tempo)
    tempo.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[np.newaxis]), format="flt", layout="mono")
    frame.sample_rate = RATE
    source.push(frame)
    source.push(None)
    parts = []
    while True:
        try:
            parts.append(sink.pull().to_ndarray().ravel())
        except (av.error.BlockingIOError, av.error.EOFError):
            return np.concatenate(parts).astype(np.float32)


@pytest.fixture
def threat(samples: dict[str, Any]) -> Any:
    return samples["rustbolt77_7518830412.mp3"]


@pytest.mark.parametrize("speed", [1.5, 1.8])
def test_sped_up_speech_keeps_its_words(real: WhisperxTranscriber, threat: Any, speed: float) -> None:
    (transcript,) = real.transcribe([faster(threat.samples, speed)])
    assert len(words(transcript.text)) >= 0.95 * len(words(threat.text))
    assert transcript.finding == "speech"
    assert transcript.windows[0].coverage > 0.9


@pytest.mark.thorough
def test_a_sentence_said_four_times_is_there_four_times(real: WhisperxTranscriber, threat: Any) -> None:
    sentence = threat.samples[: int(5.6 * RATE)]
    (transcript,) = real.transcribe([np.tile(sentence, 4)])
    assert transcript.text.lower().count("laughed in my face") == 4
    assert transcript.finding == "speech"


@pytest.mark.thorough
def test_a_short_call_said_eight_times_is_not_written_once(real: WhisperxTranscriber, threat: Any) -> None:
    call = threat.samples[int(3.3 * RATE) : int(5.6 * RATE)]
    (transcript,) = real.transcribe([np.tile(call, 8)])
    assert transcript.text.lower().count("my face") >= 6
    assert not transcript.no_speech


def test_a_voice_far_away_is_found(real: WhisperxTranscriber, threat: Any) -> None:
    far = (threat.samples * 0.001).astype(np.float32)  # -60 dB
    (transcript,) = real.transcribe([np.round(far * 32768).astype(np.float32) / 32768])
    assert len(words(transcript.text)) >= 0.7 * len(words(threat.text))


@pytest.mark.thorough
def test_two_languages_in_one_clip_are_told_apart(
    real: WhisperxTranscriber, samples: dict[str, Any], threat: Any
) -> None:
    spanish = next(clip for clip in samples.values() if clip.language == "es" and clip.end == "done")
    (transcript,) = real.transcribe(
        [np.concatenate([threat.samples, np.zeros(20 * RATE, np.float32), spanish.samples])]
    )
    assert {window.language for window in transcript.windows} == {"en", "es"}
    assert "mixed-languages" in transcript.reasons


def test_two_voices_at_once_are_doubtful_and_one_is_not(
    real: WhisperxTranscriber, samples: dict[str, Any], threat: Any
) -> None:
    other = samples["hearthandhome_lil_7518831750.mp3"].samples
    length = min(len(threat.samples), len(other))
    voices = [clip[:length] / np.sqrt(np.mean(clip[:length] ** 2)) for clip in (threat.samples, other)]
    mixed, alone = real.transcribe([0.05 * (voices[0] + voices[1]), threat.samples])
    assert mixed.finding == "doubtful"
    assert mixed.reasons == ("other-sound",)  # nothing else shows it
    assert alone.finding == "speech"


def test_a_clip_of_a_fifth_of_a_second_says_nothing(real: WhisperxTranscriber, threat: Any) -> None:
    (transcript,) = real.transcribe([threat.samples[RATE : RATE + RATE // 5]])
    assert transcript.no_speech
    assert transcript.text == ""
