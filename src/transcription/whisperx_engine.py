"""Speech to text for many short clips at once, with Whisper through WhisperX 3.8.

WhisperX's own `transcribe` takes one file at a time, so a batch is never full with short clips. It detects the language
on the first 30 s of raw audio, including music, and it drops the values that reveal invented text. This module uses
WhisperX's model, features and merging of speech into windows, and replaces the loop around them:

1. Each clip is cut into windows that hold its speech (`vad`). A clip with almost no speech ends here.
2. The windows of all clips go through the encoder in batches. The window with the most speech of its clip comes first,
   and gives the language of the clip; another window has its own language only if it is clearly another (`languages`).
3. Whisper decodes each window with time stamps (`decoder`), and again with a beam if it is unsure. A window whose text
   repeats itself is decoded once more with repetitions forbidden (`repeats`). Speech that the text of a window does not
   cover becomes a window of its own, and a window with few words for its speech is decoded again in two halves
   (`coverage`).
4. The gate says of each window whether it is speech, doubtful or no speech (`gate`). The text of the first two becomes
   sentences with times (`sentences`). Every window is recorded.

No step uses data of another clip, so a result does not depend on the other clips of the call.
Nothing is downloaded. A worker loads one engine; threads that share it take turns, because tokenizers keep state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from errors import DeviceMemoryError
from system.batch_limit import BatchLimit
from system.device import out_of_memory_explained
from transcription import repeats
from transcription.assembly import WindowResult, assemble
from transcription.coverage import halves, split_off
from transcription.decoded import FRAMES_PER_S, Decoded, Way
from transcription.decoder import WhisperDecoder
from transcription.gate import MIN_SPEECH_S, Limits
from transcription.languages import Guess, language_of
from transcription.libraries import N_SAMPLES, SAMPLE_RATE, log_mel_spectrogram
from transcription.other_sound import change_db
from transcription.repeats import Settled
from transcription.transcript import DecodedWindow, PreparedClip, Samples, Transcript, Window
from transcription.vad import speech_windows
from transcription.word_times import AlignmentModels, words_of

# Of clear speech Whisper is sure: then the most probable token at each step gives the text of a beam, in less time.
# Over 42 windows in six languages 30 were decoded without a beam, with 235 wrong words of 2,477 instead of 236.
GREEDY_LOGPROB = -0.3
# Whisper was trained on 30 s, but understands shorter inputs as well, and the encoder's time grows with the length. The
# steps are of 5 s, so that windows of similar length share a batch; how long an input is depends on its window alone.
# Over the same 42 windows, with 5 to 30 s instead of always 30 s: 235 wrong words in both, 10 % less time.
LENGTH_STEP = 5 * SAMPLE_RATE
# At least so much silence after the window, unless it has 30 s. With less, Whisper sees no end of the speech and goes
# on: with 0.1 s instead of 2 s, two clips of sped-up speech had 32 wrong words of 151 instead of 17 (greedy).
MARGIN = 2 * SAMPLE_RATE
MAX_DEPTH = 3  # times that speech without text, or with too few words, is decoded again in shorter windows
# Tokens per second of speech; slow speech has 2 to 3, usual speech 3 to 5. With fewer, a window is decoded again in two
# halves: below the first limit always, below the second one if the sound repeats itself and the text does not, because
# Whisper often writes a sentence only once that is said several times.
FEW_TOKENS_PER_S = (2.0, 3.5)
ONCE = 1.8  # compression ratio below which a text does not repeat itself
MEMORY_ADVICE = (
    "one window of 30 s does not fit beside what else uses the device: see with nvidia-smi which other process does, "
    "set SPEECH_COMPUTE_TYPE=int8_float16, or use a smaller set of models"
)


@dataclass(frozen=True)
class _Work:
    """One window that Whisper is to decode."""

    clip: int
    window: Window
    features: npt.NDArray[np.float32]  # shape (mels, frames)
    depth: int = 0  # how often its speech was decoded before
    half_of: WindowResult | None = None  # it is decoded to find more words than were found in this window


@dataclass(frozen=True)
class _Foreign:
    """One window that Whisper is to translate."""

    clip: int
    record: DecodedWindow
    features: npt.NDArray[np.float32]  # shape (mels, frames)


_Item = TypeVar("_Item", _Work, _Foreign)
_Found = TypeVar("_Found")


class WhisperxTranscriber:
    """The `Transcriber` for one Whisper model; made by `loading.load_transcriber`.

    `batch_size` is the number of windows that are decoded at once. `translate_from` says which languages to translate
    into English as well: all but these; None translates nothing.
    """

    def __init__(
        self,
        decoder: WhisperDecoder,
        *,
        name: str,
        batch_size: int,
        limits: Limits | None = None,
        translated_except: Collection[str] | None = None,
        alignment: AlignmentModels | None = None,
    ) -> None:
        self._turn = threading.Lock()
        self._decoder = decoder
        self._batch = BatchLimit(batch_size)
        self._limits = limits or Limits()
        self._untranslated = translated_except
        self._alignment = alignment or AlignmentModels(None, "cpu")
        self.name = name

    @property
    def batch_size(self) -> int:
        """The number of windows that are decoded at once; halved when the device runs out of memory."""
        return self._batch.size

    def prepare(self, samples: Samples) -> PreparedClip:
        """Find the speech and compute the features of one clip, as `Transcriber` describes."""
        windows = tuple(speech_windows(samples))
        if sum(window.speech_s for window in windows) < MIN_SPEECH_S:
            return PreparedClip(samples=samples, windows=windows)
        features = tuple(self._features(samples, window) for window in windows)
        return PreparedClip(samples=samples, windows=windows, features=features)

    def transcribe(self, clips: Sequence[Samples]) -> list[Transcript]:
        """Transcribe each clip as `Transcriber` describes."""
        return self.decode([self.prepare(clip) for clip in clips])

    def decode(self, clips: Sequence[PreparedClip]) -> list[Transcript]:
        """Transcribe prepared clips as `Transcriber` describes."""
        results: list[list[WindowResult]] = [[] for _ in clips]
        languages: dict[int, Guess] = {}
        for work in _in_order(clips):
            left = work
            while left:
                left = self._decode_all(left, clips, languages, results)
        transcripts = [
            assemble(clip.windows, found, languages.get(index), self._limits)
            for index, (clip, found) in enumerate(zip(clips, results, strict=True))
        ]
        return self._with_translations(clips, transcripts)

    def with_words(self, clip: PreparedClip, transcript: Transcript) -> Transcript:
        """Add the times of the words as `Transcriber` describes."""
        kept = [window for window in transcript.windows if window.finding != "no_speech"]
        with self._turn, out_of_memory_explained("finding the times of words", MEMORY_ADVICE):
            encoded = [
                (window, self._decoder.encode(self._features(clip.samples, window)[np.newaxis])) for window in kept
            ]
            words, source = words_of(self._decoder, self._alignment, clip.samples, transcript.segments, encoded)
        return replace(transcript, words=tuple(words), words_from=source)

    def close(self) -> None:
        """Free the model's memory."""
        self._decoder.model.unload_model()

    def _decode_all(
        self,
        work: Sequence[_Work],
        clips: Sequence[PreparedClip],
        languages: dict[int, Guess],
        results: list[list[WindowResult]],
    ) -> list[_Work]:
        """Decode windows in batches, and add their results and the clips' languages -> what is left to decode."""
        follow_ups = []
        found = self._in_batches(work, "transcribing", lambda batch: self._decode_batch(batch, languages))
        for item, (guess, settled) in found:
            result, again = self._result(item, guess, settled, clips[item.clip].samples)
            (item.half_of.halves if item.half_of else results[item.clip]).append(result)
            follow_ups += again
        return follow_ups

    def _in_batches(
        self, work: Sequence[_Item], doing: str, run: Callable[[Sequence[_Item]], Sequence[_Found]]
    ) -> list[tuple[_Item, _Found]]:
        """Run windows in batches of one length of features. A batch that does not fit the memory is halved."""
        in_order = sorted(work, key=lambda item: item.features.shape[1])
        done: list[tuple[_Item, _Found]] = []
        while len(done) < len(in_order):
            batch = _of_one_length(in_order[len(done) : len(done) + self._batch.size])
            try:
                with self._turn, out_of_memory_explained(f"{doing} {len(batch)} windows at once", MEMORY_ADVICE):
                    done += zip(batch, run(batch), strict=True)
            except DeviceMemoryError:
                if not self._batch.halved():
                    raise
        return done

    def _decode_batch(self, batch: Sequence[_Work], languages: dict[int, Guess]) -> list[tuple[Guess, Settled]]:
        encoded = self._decoder.encode(np.stack([item.features for item in batch]))
        guesses = []
        for item, probabilities in zip(batch, self._decoder.languages(encoded), strict=True):
            guesses.append(language_of(probabilities, languages.get(item.clip), item.window.speech_s))
            languages.setdefault(item.clip, guesses[-1])
        greedy = self._decoder.decode(encoded, [guess.language for guess in guesses], way="greedy")
        return list(zip(guesses, self._settled(batch, encoded, guesses, greedy), strict=True))

    def _settled(
        self, batch: Sequence[_Work], encoded: Any, guesses: Sequence[Guess], greedy: Sequence[Decoded]
    ) -> list[Settled]:
        """The decodings to keep: with a beam where the greedy one is unsure; a text that repeats itself is checked."""
        settled = [Settled(decoded, "greedy") for decoded in greedy]
        unsure = [
            number
            for number, decoded in enumerate(greedy)
            if decoded.avg_logprob < GREEDY_LOGPROB or self._repeats_alone(decoded, batch[number])
        ]
        plain = self._decode_some(encoded, guesses, unsure, "plain")
        settled = [Settled(plain[number], "plain") if number in plain else kept for number, kept in enumerate(settled)]
        repeating = [number for number in unsure if self._repeats_alone(plain[number], batch[number])]
        for number, forbidden in self._decode_some(encoded, guesses, repeating, "no_repeats").items():
            settled[number] = repeats.settle(plain[number], forbidden, batch[number].window.speech_s)
        return [replace(kept, first_logprob=first.avg_logprob) for kept, first in zip(settled, greedy, strict=True)]

    def _decode_some(
        self, encoded: Any, guesses: Sequence[Guess], numbers: Sequence[int], way: Way
    ) -> dict[int, Decoded]:
        """Decode some windows of a batch in this way -> by their numbers."""
        if not numbers:
            return {}
        languages = [guesses[number].language for number in numbers]
        decoded = self._decoder.decode(self._decoder.some(encoded, numbers), languages, way=way)
        return dict(zip(numbers, decoded, strict=True))

    def _repeats_alone(self, decoded: Decoded, item: _Work) -> bool:
        """Whether the text repeats itself, and the sound does not."""
        if decoded.compression_ratio <= self._limits.compression:
            return False
        return not repeats.as_the_sound(decoded, item.window.speech_s, _without_padding(item))

    def _result(
        self, item: _Work, guess: Guess, settled: Settled, samples: Samples
    ) -> tuple[WindowResult, list[_Work]]:
        """The result of a window, and the parts of it that are to be decoded again."""
        change = change_db(_without_padding(item))
        if item.depth == MAX_DEPTH or not settled.decoded.pieces:
            return WindowResult(item.window, guess, settled, change), []
        rest, parts = split_off(item.window, settled.decoded.pieces)
        result = WindowResult(rest, guess, settled, change)
        again = [self._again(item, part, samples) for part in parts]
        if _has_few_words(result, item):
            again += [self._again(item, half, samples, result) for half in halves(rest)]
        return result, again

    def _again(self, item: _Work, window: Window, samples: Samples, half_of: WindowResult | None = None) -> _Work:
        """The work for a part of a window that was decoded."""
        parent = item.half_of if half_of is None else half_of
        return _Work(item.clip, window, self._features(samples, window), item.depth + 1, parent)

    def _with_translations(self, clips: Sequence[PreparedClip], transcripts: Sequence[Transcript]) -> list[Transcript]:
        """Add the translation of each clip with speech in a language that is to be translated."""
        if self._untranslated is None:
            return list(transcripts)
        work = [
            _Foreign(index, record, self._features(clips[index].samples, record))
            for index, transcript in enumerate(transcripts)
            if transcript.language and transcript.language not in self._untranslated
            for record in transcript.windows
            if record.finding != "no_speech"
        ]
        found = self._in_batches(work, "translating", self._translate_batch)
        texts: dict[int, list[str]] = {}
        for item, decoded in sorted(found, key=lambda pair: (pair[0].clip, pair[0].record.start)):
            texts.setdefault(item.clip, []).append(decoded.text)
        return [
            replace(transcript, translation=" ".join(texts[index])) if index in texts else transcript
            for index, transcript in enumerate(transcripts)
        ]

    def _translate_batch(self, batch: Sequence[_Foreign]) -> list[Decoded]:
        encoded = self._decoder.encode(np.stack([item.features for item in batch]))
        return self._decoder.decode(encoded, [item.record.language for item in batch], task="translate")

    def _features(self, samples: Samples, window: Window | DecodedWindow) -> npt.NDArray[np.float32]:
        """Log-mel features, shape (mels, frames), padded with silence to the next multiple of 5 s."""
        cut = samples[int(window.start * SAMPLE_RATE) : int(window.end * SAMPLE_RATE)][:N_SAMPLES]
        length = min(N_SAMPLES, -(-(len(cut) + MARGIN) // LENGTH_STEP) * LENGTH_STEP)
        mels = self._decoder.feat_kwargs.get("feature_size") or 80
        features: npt.NDArray[np.float32] = log_mel_spectrogram(cut, n_mels=mels, padding=length - len(cut)).numpy()
        return features


def _has_few_words(result: WindowResult, item: _Work) -> bool:
    always, if_repeated = FEW_TOKENS_PER_S
    if result.tokens_per_s >= if_repeated:
        return False
    once = result.settled.decoded.compression_ratio < ONCE
    return result.tokens_per_s < always or (once and repeats.sound_repeats(_without_padding(item)))


def _of_one_length(work: Sequence[_Item]) -> Sequence[_Item]:
    """The first windows that have the same length of features; there is at least one."""
    lengths = [item.features.shape[1] for item in work]
    return work[: next((index for index, length in enumerate(lengths) if length != lengths[0]), len(work))]


def _without_padding(item: _Work) -> npt.NDArray[np.float32]:
    return item.features[:, : int((item.window.end - item.window.start) * FRAMES_PER_S)]


def _in_order(clips: Sequence[PreparedClip]) -> tuple[list[_Work], list[_Work]]:
    """The leading windows, which have the most speech of their clip and give its language; and the others."""
    leading: list[_Work] = []
    others: list[_Work] = []
    for index, clip in enumerate(clips):
        if not clip.features:
            continue
        leader = max(range(len(clip.windows)), key=lambda number: clip.windows[number].speech_s)
        for number, (window, features) in enumerate(zip(clip.windows, clip.features, strict=True)):
            (leading if number == leader else others).append(_Work(index, window, features))
    return leading, others
