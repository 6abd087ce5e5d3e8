"""A Whisper whose words and scores a test chooses. The engine with its windows, gate and retry is real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transcription.whisperx_engine import WhisperxTranscriber


@dataclass(frozen=True)
class Said:
    """What the model says of one window."""

    text: str
    avg_logprob: float
    no_speech_prob: float


@dataclass(frozen=True)
class Options:
    no_repeat_ngram_size: int = 0


class ScriptedWhisper:
    """An English-only model that says the given words, one entry for each window that it decodes."""

    def __init__(self, model_dir: Path, script: Sequence[tuple[str, float, float]]) -> None:
        import tokenizers

        self._script = [Said(*entry) for entry in script]
        self.asked: list[Options] = []  # of every call of generate_scored
        self.model = SimpleNamespace(is_multilingual=False)
        self.feat_kwargs: dict[str, int] = {}
        self.hf_tokenizer = tokenizers.Tokenizer.from_file(str(model_dir / "tokenizer.json"))

    def encode(self, features: Any) -> Any:
        return features

    def generate_scored(self, _encoded: Any, tokenizers: Sequence[Any], options: Options) -> list[Said]:
        self.asked.append(options)
        return [self._script.pop(0) for _ in tokenizers]


class FullWhisper(ScriptedWhisper):
    """A model whose device has no memory left."""

    def encode(self, features: Any) -> Any:
        raise RuntimeError(f"CUDA failed with error out of memory ({len(features)} windows)")


def engine_on(model: ScriptedWhisper) -> WhisperxTranscriber:
    from transcription.whisperx_engine import WhisperxTranscriber

    return WhisperxTranscriber(SimpleNamespace(model=model, options=Options()), name="scripted", batch_size=2)
