"""Whisper on the device: encode windows, guess their language, decode their text with time stamps.

Windows are decoded with time stamps. Without them, Whisper ends early on fast and on repeated speech, and no value of
the result shows it: of 331 words at 1.5 times the speed, Whisper base keeps 253 without time stamps and 329 with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from transcription.decoded import Decoded, Piece, Task, Way
from transcription.libraries import CPU, StorageView, Tokenizer, asr

BEAM_SIZE = 5
NO_LOOP_NGRAM = 5  # tokens: with "no_repeats", no phrase of this length occurs twice
WINDOW_S = 30.0  # the input of the encoder
STEP_S = 0.02  # of a time stamp, and of a frame of the encoder's output
# Larger batches of the encoder leave a CPU's caches: 8 windows of 25 s take 5.2 s of processor time one or two at a
# time and 6.2 s in batches of 4 (Whisper base, int8, 2 threads). The decoder is the other way round, see `loading`.
ENCODED_ON_CPU = 2
# Tokens that are decoded at most, time stamps included. Nobody says so many; a loop would go on to `max_length`.
LONGEST_TEXT = (20, 15.0)  # at the start, and for each second of the input


class WhisperDecoder(asr.WhisperModel):  # type: ignore[misc]  # whisperx has no types
    """WhisperX's model. Its own `generate_segment_batched` keeps no scores and no times, and takes one language."""

    def encode(self, features: Any) -> Any:
        """Encode windows of one length: features (batch, mels, frames) -> (batch, half as many frames, width)."""
        if self.model.device != "cpu" or len(features) <= ENCODED_ON_CPU:
            return super().encode(features)
        begins = range(0, len(features), ENCODED_ON_CPU)
        parts = [np.asarray(super(WhisperDecoder, self).encode(features[at : at + ENCODED_ON_CPU])) for at in begins]
        return StorageView.from_array(np.concatenate(parts))

    def some(self, encoded: Any, numbers: Sequence[int]) -> Any:
        """Some windows of `encoded` (batch, frames, width), by their numbers. Encoding again would take longer."""
        if list(numbers) == list(range(encoded.shape[0])):
            return encoded
        return StorageView.from_array(np.asarray(encoded.to_device(CPU))[list(numbers)])

    def languages(self, encoded: Any) -> list[dict[str, float]]:
        """The probability of each language (ISO 639-1), of each window of `encoded` (batch, frames, width)."""
        if not self.model.is_multilingual:
            return [{"en": 1.0}] * encoded.shape[0]
        return [
            {token.strip("<|>"): probability for token, probability in guesses}
            for guesses in self.model.detect_language(encoded)
        ]

    def decode(
        self, encoded: Any, languages: Sequence[str], *, way: Way = "plain", task: Task = "transcribe"
    ) -> list[Decoded]:
        """Decode the windows of `encoded` (batch, frames, width), each in its language."""
        tokenizers = [self.tokenizer(language, task) for language in languages]
        longest = int(LONGEST_TEXT[0] + LONGEST_TEXT[1] * encoded.shape[1] * STEP_S)
        results = self.model.generate(
            encoded,
            [list(tokenizer.sot_sequence) for tokenizer in tokenizers],
            beam_size=1 if way == "greedy" else BEAM_SIZE,
            max_length=min(self.max_length, longest),
            no_repeat_ngram_size=NO_LOOP_NGRAM if way == "no_repeats" else 0,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [_decoded(result, tokenizer) for result, tokenizer in zip(results, tokenizers, strict=True)]

    def tokenizer(self, language: str, task: Task = "transcribe") -> Tokenizer:
        """A tokenizer for this language and task."""
        return Tokenizer(self.hf_tokenizer, self.model.is_multilingual, task=task, language=language)


def _decoded(result: Any, tokenizer: Tokenizer) -> Decoded:
    tokens = result.sequences_ids[0]
    # CTranslate2 divides the score by the length. Whisper's average also counts the end token.
    total = result.scores[0] * len(tokens)
    return Decoded(
        pieces=pieces(tokens, tokenizer),
        tokens=sum(token < tokenizer.eot for token in tokens),
        avg_logprob=total / (len(tokens) + 1),
        no_speech_prob=result.no_speech_prob,
    )


def pieces(tokens: Sequence[int], tokenizer: Tokenizer) -> tuple[Piece, ...]:
    """Cut tokens at their time stamps. A text without its last time stamp lasts to the end of the 30 s."""
    found: list[Piece] = []
    start, words = 0.0, list[int]()

    def close(end: float) -> None:
        text = tokenizer.decode(words).strip()
        if text:
            found.append(Piece(start, max(start, end), text))
        words.clear()

    for token in tokens:
        if token < tokenizer.eot:
            words.append(token)
        elif token >= tokenizer.timestamp_begin:
            at = (token - tokenizer.timestamp_begin) * STEP_S
            close(at)
            start = at
    close(WINDOW_S)
    return tuple(found)
