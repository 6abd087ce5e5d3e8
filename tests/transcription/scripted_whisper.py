"""A Whisper whose words and scores a test chooses, under the real engine: its windows, its gate and its retries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transcription.decoded import Decoded, Task, Way
    from transcription.whisperx_engine import WhisperxTranscriber


@dataclass(frozen=True)
class Said:
    """What the model says of one window."""

    text: str
    avg_logprob: float = -0.1
    no_speech_prob: float = 0.01
    start: float = 0.0  # of the text, in seconds of the window
    end: float = 30.0
    tokens: int | None = None  # by default four per second of 30 s, so that no window seems to have few words
    languages: Mapping[str, float] = field(default_factory=lambda: {"en": 1.0})


@dataclass(frozen=True)
class Asked:
    """One call of the model."""

    windows: int
    languages: tuple[str, ...]
    way: str
    task: str


class ScriptedWhisper:
    """A model that says the given words, one entry for each window that it decodes.

    `most` is the number of windows from which on it runs out of memory.
    """

    def __init__(self, script: Sequence[Said], *, most: int = 1000) -> None:
        self._script = list(script)
        self._most = most
        self.asked: list[Asked] = []
        self.encoded: list[int] = []  # windows of every call of encode
        self.feat_kwargs: dict[str, int] = {}

    def encode(self, features: Any) -> int:
        self.encoded.append(len(features))
        if len(features) > self._most:
            raise RuntimeError(f"CUDA failed with error out of memory ({len(features)} windows)")
        return len(features)

    def some(self, encoded: int, numbers: Sequence[int]) -> int:
        assert max(numbers) < encoded
        return len(numbers)

    def languages(self, encoded: int) -> list[Mapping[str, float]]:
        return [said.languages for said in self._script[:encoded]]

    def decode(
        self, encoded: int, languages: Sequence[str], *, way: Way = "plain", task: Task = "transcribe"
    ) -> list[Decoded]:
        from transcription.decoded import Decoded, Piece

        self.asked.append(Asked(encoded, tuple(languages), way, task))
        decoded = []
        for _ in range(encoded):
            said = self._script.pop(0)
            pieces = (Piece(said.start, said.end, said.text),) if said.text else ()
            tokens = 120 if said.tokens is None else said.tokens
            decoded.append(
                Decoded(
                    pieces=pieces,
                    tokens=tokens,
                    avg_logprob=said.avg_logprob,
                    no_speech_prob=said.no_speech_prob,
                )
            )
        return decoded


def engine_on(model: ScriptedWhisper, batch_size: int = 2, **settings: Any) -> WhisperxTranscriber:
    from transcription.whisperx_engine import WhisperxTranscriber

    return WhisperxTranscriber(model, name="scripted", batch_size=batch_size, **settings)  # type: ignore[arg-type]
