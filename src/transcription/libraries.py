"""The libraries of the speech model, imported without a model hub, telemetry and warnings. Import them from here."""

from __future__ import annotations

import os
import warnings

# The libraries read these variables on import: no model hub, no telemetry of pyannote, no thread pool in tokenizers.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYANNOTE_METRICS_ENABLED"] = "false"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
with warnings.catch_warnings():
    # WhisperX imports pyannote, which is not used here and warns that it cannot decode files.
    warnings.simplefilter("ignore")
    from ctranslate2 import Device, StorageView  # type: ignore[import-untyped]
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import merge_punctuations
    from faster_whisper.vad import VadOptions, get_speech_timestamps
    from whisperx import alignment, asr
    from whisperx.alignment import align as whisperx_align
    from whisperx.alignment import load_align_model as whisperx_load_align_model
    from whisperx.audio import N_SAMPLES, SAMPLE_RATE, log_mel_spectrogram
    from whisperx.diarize import Segment as WhisperxSegment
    from whisperx.vads import Vad


CPU = Device.cpu  # as the speech model's library names it


class _OneSentence:
    """A splitter that takes every text for one sentence."""

    @staticmethod
    def span_tokenize(text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


# WhisperX would download a splitter of sentences here. It is given single sentences, so it needs none.
alignment.nltk_load = lambda _: _OneSentence()

__all__ = [
    "CPU",
    "N_SAMPLES",
    "SAMPLE_RATE",
    "StorageView",
    "Tokenizer",
    "Vad",
    "VadOptions",
    "WhisperxSegment",
    "asr",
    "get_speech_timestamps",
    "log_mel_spectrogram",
    "merge_punctuations",
    "whisperx_align",
    "whisperx_load_align_model",
]
