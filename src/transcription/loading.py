"""Load a Whisper model in CTranslate2's format."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path

from errors import ModelError
from system.device import Device, is_out_of_memory
from transcription.decoder import WhisperDecoder
from transcription.gate import Limits
from transcription.whisperx_engine import WhisperxTranscriber
from transcription.word_times import AlignmentModels

MAX_CPU_THREADS = 8  # for one batch at a time, CTranslate2 is not faster with more
# On a CPU a larger batch needs more memory and saves little time. To decode 8 windows of 25 s with the most probable
# tokens, Whisper base takes 10.3 s of CPU time in batches of 1, 7.5 s of 2, 6.1 s of 4 and 5.1 s of 8 (2 threads); with
# a beam 13.7, 10.0 and 8.7 s in batches of 1, 2 and 4. 16 clips in batches of 16 with a beam had a peak of 2.3 GB.
MAX_CPU_BATCH = 8
_FILES = ("model.bin", "config.json", "tokenizer.json")

log = logging.getLogger(__name__)


def load_transcriber(
    model_dir: Path,
    *,
    name: str,
    device: Device,
    batch_size: int,
    limits: Limits | None = None,
    translated_except: Collection[str] | None = None,
    alignment_dir: Path | None = None,
) -> WhisperxTranscriber:
    """Load a Whisper model in CTranslate2's format.

    `name` is recorded with every transcript. `batch_size` is the number of windows that are decoded at once; on a CPU
    it is at most MAX_CPU_BATCH. `limits` are the gate's. `translated_except` are the languages that are not translated
    into English; with None, nothing is. `alignment_dir` may hold a folder with an alignment model for each language.

    Raises
    ------
    ModelError
        The model is missing, incomplete or unreadable.
    OperatorError
        The device has too little memory.
    """
    _check_files(model_dir)
    try:
        decoder = WhisperDecoder(
            str(model_dir),
            device=device.name,
            compute_type=device.compute_type,
            cpu_threads=min(len(os.sched_getaffinity(0)), MAX_CPU_THREADS),
            local_files_only=True,
        )
    except Exception as error:  # the libraries raise bare Exception for a damaged tokenizer
        if is_out_of_memory(error):
            raise device.too_small(f"the speech model in {model_dir}", error) from error
        raise ModelError(f"the speech model in {model_dir} cannot be read ({error}); {_how_to_fetch()}") from error
    log.info("speech model %s from %s on %s, %s", name, model_dir, device.description, device.compute_type)
    return WhisperxTranscriber(
        decoder,
        name=name,
        batch_size=batch_size if device.name == "cuda" else min(batch_size, MAX_CPU_BATCH),
        limits=limits,
        translated_except=translated_except,
        alignment=AlignmentModels(alignment_dir, device.name),
    )


def _check_files(model_dir: Path) -> None:
    missing = [file for file in _FILES if not (model_dir / file).is_file()]
    if not any((model_dir / f"vocabulary.{ending}").is_file() for ending in ("json", "txt")):
        missing.append("vocabulary.json")
    if missing:
        raise ModelError(f"the speech model is not in {model_dir}: {', '.join(missing)} missing; {_how_to_fetch()}")


def _how_to_fetch() -> str:
    return "fetch it with `cd src && python -m models fetch SET`, where SET is the value of MODEL_SET"
