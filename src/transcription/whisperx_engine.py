"""Whisper through WhisperX 3.8: windows of many clips in common batches, one language per clip, a gate behind it.

WhisperX's own `transcribe` takes one file at a time, guesses the language on the first 30 s of raw audio (music
included, with an encoder pass of its own), and drops the values by which invented text can be told. This module keeps
its model, features, options and merging of speech into windows, and replaces the loop around them:

1. each clip is cut into windows that hold its speech (`vad`); a clip with hardly any ends here;
2. the windows of all clips go through the encoder in batches; the language is read off the encoder's output for the
   window of the clip that holds most speech, which comes first;
3. Whisper decodes with beam 5, without time stamps, each window prompted with its clip's language; a window whose text
   goes round in circles is decoded once more with repetitions forbidden;
4. the gate drops windows that are not speech (`gate`), and the rest becomes sentences with times (`sentences`).

No step looks from one clip at another, so results do not depend on what else is in the call.
Nothing is downloaded. A worker loads one engine; threads that share it take turns, because tokenizers keep state.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

# Read by the libraries when they are imported: no model hub, no telemetry of pyannote, no pool in the tokenizers.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYANNOTE_METRICS_ENABLED"] = "false"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
with warnings.catch_warnings():
    # pyannote, imported by WhisperX and unused here, complains that it cannot decode files.
    warnings.simplefilter("ignore")
    from faster_whisper.tokenizer import Tokenizer
    from whisperx import asr
    from whisperx.audio import N_SAMPLES, SAMPLE_RATE, log_mel_spectrogram

    from transcription.vad import SileroVad, Window, speech_windows

from errors import ModelError
from system.device import Device, is_out_of_memory, out_of_memory_explained
from transcription import gate
from transcription.sentences import timed_sentences
from transcription.transcript import Samples, Segment, Transcript

BEAM_SIZE = 5
NO_LOOP_NGRAM = 5  # tokens: a phrase of so many may stand only once in a window that is decoded a second time
MAX_CPU_THREADS = 8  # CTranslate2 gains nothing beyond, for one batch at a time
# On a CPU a larger batch saves no time and takes memory: 16 clips with Whisper base cost 45 s of CPU time one by one,
# 36 s in fours and 39 s in sixteens, at a peak of 1.0, 1.3 and 2.3 GB.
MAX_CPU_BATCH = 4
_FILES = ("model.bin", "config.json", "tokenizer.json")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Task:
    """One window on its way through Whisper."""

    clip: int
    window: Window
    samples: Samples
    leads: bool  # the clip's language is read off this window


@dataclass(frozen=True)
class _Heard:
    """What Whisper heard in one window, and why it is dropped, if it is."""

    window: Window
    text: str
    quality: gate.Quality
    rejected: str | None


@dataclass(frozen=True)
class _Decoded:
    text: str
    avg_logprob: float
    no_speech_prob: float


class _Model(asr.WhisperModel):  # type: ignore[misc]  # whisperx has no types
    """WhisperX's model; keeps the scores that its `generate_segment_batched` drops, and takes a prompt per window."""

    def generate_scored(self, encoded: Any, tokenizers: Sequence[Tokenizer], options: Any) -> list[_Decoded]:
        """Decode the windows of `encoded` (batch, 1500, width), each with its own tokenizer, hence language."""
        prompts = [
            self.get_prompt(tokenizer, [], without_timestamps=options.without_timestamps) for tokenizer in tokenizers
        ]
        results = self.model.generate(
            encoded,
            prompts,
            beam_size=options.beam_size,
            patience=options.patience,
            length_penalty=options.length_penalty,
            max_length=self.max_length,
            suppress_blank=options.suppress_blank,
            suppress_tokens=options.suppress_tokens,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            repetition_penalty=options.repetition_penalty,
            return_scores=True,
            return_no_speech_prob=True,
        )
        decoded = []
        for result, tokenizer in zip(results, tokenizers, strict=True):
            tokens = result.sequences_ids[0]
            text = tokenizer.decode([token for token in tokens if token < tokenizer.eot])
            # CTranslate2 normalises by length; Whisper's average also counts the end token.
            total = result.scores[0] * len(tokens) ** options.length_penalty
            decoded.append(_Decoded(text.strip(), total / (len(tokens) + 1), result.no_speech_prob))
        return decoded


class WhisperxTranscriber:
    """The `Transcriber` over one Whisper model; made by `load_transcriber`."""

    def __init__(self, pipeline: Any, *, name: str, batch_size: int) -> None:
        self._turn = threading.Lock()
        self._pipeline = pipeline
        self._model: _Model = pipeline.model
        self._batch_size = batch_size
        self._tokenizers: dict[str, Tokenizer] = {}
        self.name = name

    def transcribe(self, clips: Sequence[Samples]) -> list[Transcript]:
        """See `Transcriber`."""
        windows = [speech_windows(clip) for clip in clips]
        speech = [sum(window.speech_s for window in found) for found in windows]
        tasks = [
            task
            for index, clip in enumerate(clips)
            if speech[index] >= gate.MIN_SPEECH_S
            for task in _tasks(index, clip, windows[index])
        ]
        languages: dict[int, tuple[str, float]] = {}
        heard: dict[int, list[_Heard]] = {index: [] for index in range(len(clips))}
        for begin in range(0, len(tasks), self._batch_size):
            batch = tasks[begin : begin + self._batch_size]
            with self._turn, out_of_memory_explained(f"transcribing {self._batch_size} windows at once"):
                results = self._hear(batch, languages)
            for task, result in zip(batch, results, strict=True):
                heard[task.clip].append(result)
        return [_transcript(speech[index], heard[index], languages.get(index)) for index in range(len(clips))]

    def close(self) -> None:
        """Give the model's memory back."""
        self._model.model.unload_model()

    def _hear(self, batch: Sequence[_Task], languages: dict[int, tuple[str, float]]) -> list[_Heard]:
        """Transcribe one batch of windows, and note the languages of the clips whose leading window is in it."""
        encoded = self._model.encode(self._features(batch))
        if not self._model.model.is_multilingual:
            languages.update({task.clip: ("en", 1.0) for task in batch})
        elif any(task.leads for task in batch):
            for task, guesses in zip(batch, self._model.model.detect_language(encoded), strict=True):
                if task.leads:
                    token, probability = guesses[0]
                    languages[task.clip] = (token.strip("<|>"), probability)
        options = self._pipeline.options
        tokenizers = [self._tokenizer(languages[task.clip][0]) for task in batch]
        decoded = self._model.generate_scored(encoded, tokenizers, options)
        heard = [_judge(task.window, item) for task, item in zip(batch, decoded, strict=True)]
        # Whisper can fall into a loop in the middle of real speech, which must not be lost: such windows are decoded
        # once more with loops forbidden. (Whisper's own answer, sampling, differs from run to run.)
        for index, item in enumerate(heard):
            if item.rejected == "repetition":
                encoded = self._model.encode(self._features(batch[index : index + 1]))
                again = self._model.generate_scored(
                    encoded, tokenizers[index : index + 1], replace(options, no_repeat_ngram_size=NO_LOOP_NGRAM)
                )
                retried = _judge(item.window, again[0])
                heard[index] = item if retried.rejected else retried
        return heard

    def _features(self, batch: Sequence[_Task]) -> Any:
        """Log-mel features, shape (batch, mels, 3000), each window padded to 30 s with silence."""
        mels = self._model.feat_kwargs.get("feature_size") or 80
        return np.stack(
            [
                log_mel_spectrogram(task.samples, n_mels=mels, padding=N_SAMPLES - len(task.samples)).numpy()
                for task in batch
            ]
        )

    def _tokenizer(self, language: str) -> Tokenizer:
        if language not in self._tokenizers:
            multilingual = self._model.model.is_multilingual
            self._tokenizers[language] = Tokenizer(
                self._model.hf_tokenizer, multilingual, task="transcribe", language=language
            )
        return self._tokenizers[language]


def load_transcriber(model_dir: Path, *, name: str, device: Device, batch_size: int) -> WhisperxTranscriber:
    """Load a Whisper model in CTranslate2's format.

    `name` is recorded with every transcript; `batch_size` is how many windows are decoded at once (on a CPU at most
    MAX_CPU_BATCH).

    Raises
    ------
    ModelError
        The model is missing, incomplete or unreadable.
    OperatorError
        The device lacks the memory.
    """
    _check_files(model_dir)
    try:
        pipeline = _load_pipeline(model_dir, device)
    except Exception as error:  # the libraries raise bare Exception for a damaged tokenizer
        if is_out_of_memory(error):
            raise device.too_small(f"the speech model in {model_dir}", error) from error
        raise ModelError(f"the speech model in {model_dir} cannot be read ({error}); {_how_to_fetch()}") from error
    log.info("speech model %s from %s on %s, %s", name, model_dir, device.description, device.compute_type)
    windows = batch_size if device.name == "cuda" else min(batch_size, MAX_CPU_BATCH)
    return WhisperxTranscriber(pipeline, name=name, batch_size=windows)


def _load_pipeline(model_dir: Path, device: Device) -> Any:
    threads = min(len(os.sched_getaffinity(0)), MAX_CPU_THREADS)
    model = _Model(
        str(model_dir),
        device=device.name,
        compute_type=device.compute_type,
        cpu_threads=threads,
        local_files_only=True,
    )
    logging.getLogger("whisperx").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that our VAD is used
        return asr.load_model(
            str(model_dir),
            device.name,
            compute_type=device.compute_type,
            asr_options={"beam_size": BEAM_SIZE, "without_timestamps": True},
            vad_model=SileroVad(),
            model=model,
        )


def _check_files(model_dir: Path) -> None:
    missing = [file for file in _FILES if not (model_dir / file).is_file()]
    if not any((model_dir / f"vocabulary.{ending}").is_file() for ending in ("json", "txt")):
        missing.append("vocabulary.json")
    if missing:
        raise ModelError(f"the speech model is not in {model_dir}: {', '.join(missing)} missing; {_how_to_fetch()}")


def _how_to_fetch() -> str:
    return "fetch it with `cd src && python -m models fetch SET`, where SET is the value of MODEL_SET"


def _tasks(index: int, clip: Samples, windows: Sequence[Window]) -> list[_Task]:
    """A clip's windows; the one with most speech first, because the others need its language."""
    leader = max(windows, key=lambda window: window.speech_s)
    ordered = [leader, *(window for window in windows if window is not leader)]
    return [
        _Task(
            clip=index,
            window=window,
            samples=clip[int(window.start * SAMPLE_RATE) : int(window.end * SAMPLE_RATE)][:N_SAMPLES],
            leads=window is leader,
        )
        for window in ordered
    ]


def _judge(window: Window, decoded: _Decoded) -> _Heard:
    ratio = gate.compression_ratio(decoded.text)
    quality = gate.Quality(decoded.avg_logprob, decoded.no_speech_prob, ratio)
    return _Heard(window, decoded.text, quality, gate.reject(decoded.text, quality))


def _transcript(speech_s: float, heard: Sequence[_Heard], language: tuple[str, float] | None) -> Transcript:
    """Put one clip together from what was heard in its windows."""
    in_order = sorted(heard, key=lambda item: item.window.start)
    kept = [item for item in in_order if item.rejected is None]
    # Without speech, the values of the dropped windows stand beside the reason, so that it can be checked.
    judged = kept or in_order
    weight = sum(item.window.speech_s for item in judged)
    reason = None if kept else (_main_reason(in_order) if in_order else "no-speech-found")
    return Transcript(
        text=" ".join(item.text for item in kept),
        language=language[0] if kept and language else None,
        language_probability=language[1] if kept and language else None,
        segments=tuple(segment for item in kept for segment in _segments(item)),
        speech_s=round(speech_s, 2),
        no_speech=not kept,
        no_speech_reason=reason,
        avg_logprob=sum(item.quality.avg_logprob * item.window.speech_s for item in judged) / weight
        if weight
        else None,
        no_speech_prob=max((item.quality.no_speech_prob for item in judged), default=None),
        compression_ratio=max((item.quality.compression_ratio for item in judged), default=None),
    )


def _main_reason(heard: Sequence[_Heard]) -> str | None:
    """Of several dropped windows, the one with most speech speaks for the clip."""
    return max(heard, key=lambda item: item.window.speech_s).rejected


def _segments(heard: _Heard) -> list[Segment]:
    quality = heard.quality
    return [
        Segment(start, end, text, quality.avg_logprob, quality.no_speech_prob, quality.compression_ratio)
        for start, end, text in timed_sentences(heard.text, heard.window.spans)
    ]
