"""Whisper through WhisperX 3.8: decodes windows of many clips in batches, with one language per clip.

WhisperX's own `transcribe` takes one file at a time. It detects the language on the first 30 s of raw audio, including
music, with an extra encoder pass, and it drops the values that reveal invented text. This module uses WhisperX's model,
features, options and merging of speech into windows, and replaces the loop around them:

1. Each clip is cut into windows that hold its speech (`vad`). A clip with almost no speech ends here.
2. The windows of all clips go through the encoder in batches. The window with the most speech of its clip comes first,
   and the encoder's output for it gives the language of the clip.
3. Whisper decodes each window with beam 5, without time stamps, in the language of its clip. A window whose text
   repeats itself is decoded a second time with repetitions forbidden.
4. The gate drops windows that are not speech (`gate`). The text of the others becomes sentences with times
   (`sentences`).

No step uses data of another clip, so a result does not depend on the other clips of the call.
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

# The libraries read these variables on import: no model hub, no telemetry of pyannote, no thread pool in tokenizers.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYANNOTE_METRICS_ENABLED"] = "false"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
with warnings.catch_warnings():
    # WhisperX imports pyannote, which is not used here and warns that it cannot decode files.
    warnings.simplefilter("ignore")
    from faster_whisper.tokenizer import Tokenizer
    from whisperx import asr
    from whisperx.audio import N_SAMPLES, SAMPLE_RATE, log_mel_spectrogram

    from transcription.vad import SileroVad, speech_windows

from errors import ModelError
from system.device import Device, is_out_of_memory, out_of_memory_explained
from transcription import gate
from transcription.sentences import timed_sentences
from transcription.transcript import PreparedClip, Samples, Segment, Transcript, Window

BEAM_SIZE = 5
NO_LOOP_NGRAM = 5  # tokens: in a second decoding, no phrase of this length may occur twice
MAX_CPU_THREADS = 8  # for one batch at a time, CTranslate2 is not faster with more
# On a CPU a larger batch saves no time and needs more memory. With Whisper base, 16 clips take 45 s of CPU time in
# batches of 1, 36 s in batches of 4 and 39 s in batches of 16, with a peak of 1.0, 1.3 and 2.3 GB.
MAX_CPU_BATCH = 4
_FILES = ("model.bin", "config.json", "tokenizer.json")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Task:
    """One window that Whisper is to decode."""

    clip: int
    window: Window
    samples: Samples
    leads: bool  # this window gives the language of the clip


@dataclass(frozen=True)
class _WindowResult:
    """The text of one window, and the reason if the gate drops it."""

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
    """WhisperX's model. Unlike `generate_segment_batched`, it keeps the scores and takes one prompt per window."""

    def generate_scored(self, encoded: Any, tokenizers: Sequence[Tokenizer], options: Any) -> list[_Decoded]:
        """Decode the windows of `encoded` (batch, 1500, width). Each has its own tokenizer, which sets its language."""
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
            # CTranslate2 divides the score by the length. Whisper's average also counts the end token.
            total = result.scores[0] * len(tokens) ** options.length_penalty
            decoded.append(_Decoded(text.strip(), total / (len(tokens) + 1), result.no_speech_prob))
        return decoded


class WhisperxTranscriber:
    """The `Transcriber` for one Whisper model; made by `load_transcriber`."""

    def __init__(self, pipeline: Any, *, name: str, batch_size: int) -> None:
        self._turn = threading.Lock()
        self._pipeline = pipeline
        self._model: _Model = pipeline.model
        self._batch_size = batch_size
        self._tokenizers: dict[str, Tokenizer] = {}
        self.name = name

    def prepare(self, samples: Samples) -> PreparedClip:
        """Find the speech of one clip as `Transcriber` describes."""
        return PreparedClip(samples=samples, windows=tuple(speech_windows(samples)))

    def transcribe(self, clips: Sequence[Samples]) -> list[Transcript]:
        """Transcribe each clip as `Transcriber` describes."""
        return self.decode([self.prepare(clip) for clip in clips])

    def decode(self, prepared: Sequence[PreparedClip]) -> list[Transcript]:
        """Transcribe prepared clips as `Transcriber` describes."""
        clips = [clip.samples for clip in prepared]
        windows = [clip.windows for clip in prepared]
        speech = [sum(window.speech_s for window in found) for found in windows]
        tasks = [
            task
            for index, clip in enumerate(clips)
            if speech[index] >= gate.MIN_SPEECH_S
            for task in _tasks(index, clip, windows[index])
        ]
        languages: dict[int, tuple[str, float]] = {}
        by_clip: dict[int, list[_WindowResult]] = {index: [] for index in range(len(clips))}
        for begin in range(0, len(tasks), self._batch_size):
            batch = tasks[begin : begin + self._batch_size]
            with self._turn, out_of_memory_explained(f"transcribing {self._batch_size} windows at once"):
                results = self._decode_batch(batch, languages)
            for task, result in zip(batch, results, strict=True):
                by_clip[task.clip].append(result)
        return [_transcript(speech[index], by_clip[index], languages.get(index)) for index in range(len(clips))]

    def close(self) -> None:
        """Free the model's memory."""
        self._model.model.unload_model()

    def _decode_batch(self, batch: Sequence[_Task], languages: dict[int, tuple[str, float]]) -> list[_WindowResult]:
        """Decode one batch of windows, and add the languages of the clips whose leading window is in the batch."""
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
        results = [_checked(task.window, item) for task, item in zip(batch, decoded, strict=True)]
        # Whisper can get into a loop in the middle of real speech, which must not be lost. So such a window is decoded
        # a second time with loops forbidden. (Whisper's own solution, sampling, gives different results in each run.)
        for index, item in enumerate(results):
            if item.rejected == "repetition":
                encoded = self._model.encode(self._features(batch[index : index + 1]))
                again = self._model.generate_scored(
                    encoded, tokenizers[index : index + 1], replace(options, no_repeat_ngram_size=NO_LOOP_NGRAM)
                )
                retried = _checked(item.window, again[0])
                results[index] = item if retried.rejected else retried
        return results

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

    `name` is recorded with every transcript. `batch_size` is the number of windows that are decoded at once; on a CPU
    it is at most MAX_CPU_BATCH.

    Raises
    ------
    ModelError
        The model is missing, incomplete or unreadable.
    OperatorError
        The device has too little memory.
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
    with contextlib.redirect_stdout(io.StringIO()):  # load_model prints a line about the VAD
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
    """The tasks of a clip. The window with the most speech comes first, because the others need its language."""
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


def _checked(window: Window, decoded: _Decoded) -> _WindowResult:
    ratio = gate.compression_ratio(decoded.text)
    quality = gate.Quality(decoded.avg_logprob, decoded.no_speech_prob, ratio)
    return _WindowResult(window, decoded.text, quality, gate.reject(decoded.text, quality))


def _transcript(speech_s: float, results: Sequence[_WindowResult], language: tuple[str, float] | None) -> Transcript:
    """Join the results of a clip's windows."""
    in_order = sorted(results, key=lambda item: item.window.start)
    kept = [item for item in in_order if item.rejected is None]
    # Without speech, the transcript holds the values of the dropped windows, so that the reason can be checked.
    measured = kept or in_order
    weight = sum(item.window.speech_s for item in measured)
    reason = None if kept else (_main_reason(in_order) if in_order else "no-speech-found")
    return Transcript(
        text=" ".join(item.text for item in kept),
        language=language[0] if kept and language else None,
        language_probability=language[1] if kept and language else None,
        segments=tuple(segment for item in kept for segment in _segments(item)),
        speech_s=round(speech_s, 2),
        finding="speech" if kept else "no_speech",
        reasons=(reason,) if reason else (),
        avg_logprob=sum(item.quality.avg_logprob * item.window.speech_s for item in measured) / weight
        if weight
        else None,
        no_speech_prob=max((item.quality.no_speech_prob for item in measured), default=None),
        compression_ratio=max((item.quality.compression_ratio for item in measured), default=None),
    )


def _main_reason(results: Sequence[_WindowResult]) -> str | None:
    """The reason of the dropped window with the most speech."""
    return max(results, key=lambda item: item.window.speech_s).rejected


def _segments(result: _WindowResult) -> list[Segment]:
    quality = result.quality
    return [
        Segment(
            start=start,
            end=end,
            text=text,
            avg_logprob=quality.avg_logprob,
            no_speech_prob=quality.no_speech_prob,
            compression_ratio=quality.compression_ratio,
        )
        for start, end, text in timed_sentences(result.text, result.window.spans)
    ]
