"""The speech engines that `bench.speech` compares, each as people use it, on the same files with the same model.

All run Whisper with beam 5 in the same number format and with the same number of threads. Each reads the files itself,
in the way that its users do.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.loading import load_speech
from media.audio import decode
from system.device import Device
from transcription import Transcriber, Transcript

BATCH = 16  # windows; what WhisperX's documentation uses
BEAM = 5


@dataclass(frozen=True)
class Heard:
    """What an engine made of one clip. Only ours says more than the text."""

    text: str
    language: str | None
    finding: str | None = None
    windows: tuple[tuple[str, str], ...] = field(default=())  # text and finding of each


class Engine(Protocol):
    @property
    def name(self) -> str: ...

    def transcribe(self, files: Sequence[Path]) -> list[Heard]:
        """Transcribe some clips; it may decode them together."""
        ...


class Ours:
    """The engine of the pipeline: all clips of a call at once."""

    name = "ours"

    def __init__(self, engine: Transcriber) -> None:
        self.engine = engine

    def transcribe(self, files: Sequence[Path]) -> list[Heard]:
        return [heard(transcript) for transcript in self.engine.transcribe([decode(file) for file in files])]


class Plain:
    """A loop over files with WhisperX."""

    def __init__(self, name: str, pipeline: Any, load: Callable[[str], Any]) -> None:
        self.name = name
        self._pipeline = pipeline
        self._load = load

    def transcribe(self, files: Sequence[Path]) -> list[Heard]:
        return [self._one(self._load(str(file))) for file in files]

    def _one(self, samples: Any) -> Heard:
        try:
            result = self._pipeline.transcribe(samples, batch_size=BATCH)
        except IndexError:  # WhisperX's way to say that this voice activity detector found no speech
            return Heard("", None)
        return Heard(" ".join(segment["text"].strip() for segment in result["segments"]), result["language"])


class Batched:
    """A loop over files with faster-whisper's batched pipeline."""

    name = "faster-whisper batched"

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def transcribe(self, files: Sequence[Path]) -> list[Heard]:
        found = []
        for file in files:
            segments, info = self._pipeline.transcribe(str(file), batch_size=BATCH, beam_size=BEAM)
            found.append(Heard(" ".join(segment.text.strip() for segment in segments), info.language))
        return found


def heard(transcript: Transcript) -> Heard:
    """Our transcript in the form that the comparison needs."""
    windows = tuple((window.text, window.finding) for window in transcript.windows)
    return Heard(transcript.text, transcript.language, transcript.finding, windows)


def load_ours(model: Path, device: Device, batch_size: int = BATCH) -> Ours:
    return Ours(load_speech(model, device, batch_size))


def load_engines(model: Path, device: Device, threads: int, names: Sequence[str] = ()) -> list[Engine]:
    """Load ours and the others: all, or those whose names are given."""
    makers: dict[str, Callable[[], Engine]] = {
        "ours": lambda: load_ours(model, device),
        "whisperx": lambda: _plain("whisperx", model, device, threads),
        "whisperx, our VAD": lambda: _plain("whisperx, our VAD", model, device, threads, our_vad=True),
        "faster-whisper batched": lambda: _batched(model, device, threads),
    }
    return [make() for name, make in makers.items() if not names or name in names]


def _plain(name: str, model: Path, device: Device, threads: int, *, our_vad: bool = False) -> Plain:
    from whisperx import asr

    from transcription.vad import SileroVad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = asr.load_model(
            str(model),
            device.name,
            compute_type=device.compute_type,
            asr_options={"beam_size": BEAM},
            vad_model=SileroVad() if our_vad else None,
            threads=threads,
            local_files_only=True,
        )
    return Plain(name, pipeline, loader())


def _batched(model: Path, device: Device, threads: int) -> Batched:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    loaded = WhisperModel(str(model), device=device.name, compute_type=device.compute_type, cpu_threads=threads)
    return Batched(BatchedInferencePipeline(loaded))


def loader() -> Callable[[str], Any]:
    """WhisperX's own reader, which starts the program ffmpeg; without that program, ours, which takes less time."""
    if shutil.which("ffmpeg") is None:
        return lambda file: decode(Path(file))
    from whisperx import load_audio

    return load_audio  # type: ignore[no-any-return]
