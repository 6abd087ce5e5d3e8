"""The times of words, by an alignment model or by Whisper itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

if TYPE_CHECKING:
    from transcription.whisperx_engine import WhisperxTranscriber

Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def alignment_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav2vec2 model of random weights for English, and a broken one for Spanish."""
    import torch
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    folder = tmp_path_factory.mktemp("align")
    english = folder / "en"
    english.mkdir()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
    (english / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
    torch.manual_seed(0)
    Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=len(letters), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            conv_dim=[16] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        )
    ).save_pretrained(english)  # fmt: skip
    tokenizer = Wav2Vec2CTCTokenizer(str(english / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(english)
    (folder / "es").mkdir()
    return folder


def test_whisper_itself_times_the_words(real: WhisperxTranscriber, speech: Samples) -> None:
    prepared = real.prepare(speech)
    [transcript] = real.decode([prepared])
    timed = real.with_words(prepared, transcript)
    assert timed.words_from == "decoder"
    assert timed.words is not None
    assert [word.word for word in timed.words] == transcript.text.split()
    assert all(0 <= word.start <= word.end <= len(speech) / 16_000 for word in timed.words)
    assert [word.start for word in timed.words] == sorted(word.start for word in timed.words)
    for segment in transcript.segments:  # the first word of a sentence begins where the sentence does
        first = segment.text.split()[0]
        assert min(abs(word.start - segment.start) for word in timed.words if word.word == first) < 1.0


def test_an_alignment_model_of_the_language_times_the_words(
    tiny_whisper: Path, alignment_dir: Path, speech: Samples
) -> None:
    from tests.transcription.conftest import load

    engine = load(tiny_whisper, alignment_dir=alignment_dir)
    prepared = engine.prepare(speech)
    [transcript] = engine.decode([prepared])
    timed = engine.with_words(prepared, transcript)
    assert timed.words_from == "alignment"
    assert timed.words is not None
    assert [word.word for word in timed.words] == transcript.text.split()


def test_a_broken_alignment_model_is_named_once_and_not_needed(
    alignment_dir: Path, speech: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    from transcription.word_times import AlignmentModels

    models: Any = AlignmentModels(alignment_dir, "cpu")
    assert models.words(speech, [], "es") is None
    assert models.words(speech, [], "es") is None
    assert models.words(speech, [], "fr") is None
    assert [str(alignment_dir / "es") in message for message in caplog.messages] == [True]
