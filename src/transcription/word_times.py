"""The times of words: by an alignment model of the language where there is one, else by Whisper's own attention.

A folder `{MODELS_ROOT}/align/{language}/`, for example `align/en/`, may hold a wav2vec2 model in transformers' format.
WhisperX aligns text and sound with it. It is loaded at the first clip in its language, and stays loaded. Without such a
folder, or if the model cannot align a text, the times come from the attention of Whisper's decoder, which are less
exact: about a tenth of a second instead of some hundredths.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transcription.decoded import FRAMES_PER_S
from transcription.decoder import WINDOW_S, WhisperDecoder
from transcription.libraries import merge_punctuations, whisperx_align, whisperx_load_align_model
from transcription.transcript import DecodedWindow, Samples, Segment, Word, WordsFrom

KEPT_MODELS = 4  # alignment models in memory at once, about 1.3 GB each

# Punctuation that belongs to the next word, and to the word before.
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"

log = logging.getLogger(__name__)


class AlignmentModels:
    """The alignment models below one folder, each loaded when it is needed first."""

    def __init__(self, folder: Path | None, device: str) -> None:
        self._folder = folder
        self._device = device
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._unusable: set[str] = set()

    def words(self, samples: Samples, segments: Sequence[Segment], language: str) -> list[Word] | None:
        """The words of a clip's segments in one language; None without a model that can align them."""
        model = self._model(language)
        if model is None:
            return None
        lines = [{"start": segment.start, "end": segment.end, "text": segment.text} for segment in segments]
        aligned = whisperx_align(lines, *model, samples, self._device)
        found = [word for line in aligned["segments"] for word in line.get("words", [])]
        if not found or any("start" not in word for word in found):
            return None  # some characters are unknown to the model
        return [
            Word(
                start=round(float(word["start"]), 2),
                end=round(float(word["end"]), 2),
                word=word["word"],
                probability=round(float(word["score"]), 3) if "score" in word else None,
            )
            for word in found
        ]

    def _model(self, language: str) -> Any:
        if language in self._loaded:
            self._loaded.move_to_end(language)
            return self._loaded[language]
        folder = self._folder / language if self._folder else None
        if folder is None or language in self._unusable or not folder.is_dir():
            return None
        try:
            self._loaded[language] = whisperx_load_align_model(
                language, self._device, str(folder), model_cache_only=True
            )
        except ValueError as error:
            self._unusable.add(language)
            log.warning("the alignment model in %s cannot be read; word times come from Whisper (%s)", folder, error)
            return None
        if len(self._loaded) > KEPT_MODELS:
            self._loaded.popitem(last=False)
        return self._loaded[language]


def decoder_words(decoder: WhisperDecoder, encoded: Any, window: DecodedWindow) -> list[Word]:
    """The words of one window by the decoder's attention; `encoded` is its encoder output, of one window."""
    tokenizer = decoder.tokenizer(window.language)
    tokens = tokenizer.encode(" " + window.text)
    frames = min(int((window.end - window.start) * FRAMES_PER_S), int(WINDOW_S * FRAMES_PER_S))
    [found] = decoder.find_alignment(tokenizer, [tokens], encoded, frames)
    merge_punctuations(found, PREPENDED, APPENDED)
    return [
        Word(
            start=round(window.start + float(word["start"]), 2),
            end=round(window.start + float(word["end"]), 2),
            word=word["word"].strip(),
            probability=round(float(word["probability"]), 3),
        )
        for word in found
        if word["word"].strip()
    ]


def words_of(
    decoder: WhisperDecoder, models: AlignmentModels, samples: Samples, segments: Sequence[Segment], kept: Sequence[Any]
) -> tuple[list[Word], WordsFrom]:
    """The words of a clip and where their times come from.

    `kept` are the windows of the transcript's text, as (window, encoder output of this window).
    """
    languages = {window.language for window, _ in kept}
    if len(languages) == 1:
        aligned = models.words(samples, segments, languages.pop())
        if aligned is not None:
            return aligned, "alignment"
    return [word for window, encoded in kept for word in decoder_words(decoder, encoded, window)], "decoder"
