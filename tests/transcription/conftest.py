"""A tiny Whisper with a fixed output, the demo's real Whisper, and speech samples."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from media.audio import decode
from system.device import Device

if TYPE_CHECKING:  # whisperx takes seconds to import: only what runs one of these tests does so
    from transcription.whisperx_engine import WhisperxTranscriber

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "local" / "samples"
CPU = Device("cpu", "CPU", "int8", "float32")
SAID = "Hello there, this is a test. It has two sentences."
TEXT_IDS = 50_257  # Whisper's multilingual vocabulary: text below, then specials, then times


@dataclass(frozen=True)
class Sample:
    """A clip of local/samples: float32 at 16 kHz, and what its manifest says about it."""

    samples: npt.NDArray[np.float32]
    text: str
    language: str
    end: str


def _languages() -> list[str]:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return list(LANGUAGES)


def _tokenizer() -> Any:
    """256 byte tokens, fillers, and the special and time tokens at their positions in Whisper's vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    vocabulary |= {f"filler-{number}": number for number in range(len(letters), TEXT_IDS - 1)}
    vocabulary[""] = TEXT_IDS - 1  # CTranslate2 calls a model multilingual only if it has the empty token
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", *_languages(), "translate", "transcribe", "startoflm", "startofprev"]
    names += ["nospeech", "notimestamps"]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False) for name in names])
    tokenizer.add_tokens([AddedToken(f"<|{step * 0.02:.2f}|>", normalized=False) for step in range(1501)])
    return tokenizer


def load(model: Path, **settings: Any) -> WhisperxTranscriber:
    """The engine with this model. It is imported here, because the import takes seconds: collecting stays fast."""
    from transcription.loading import load_transcriber

    return load_transcriber(model, **{"name": "tiny", "device": CPU, "batch_size": 2, **settings})


def build_tiny_whisper(folder: Path, said: str, language: str) -> Path:
    """A CTranslate2 Whisper whose k-th token is always the k-th of `said`, in `language`.

    Attention and feed-forward layers add nothing, and the embedding of each position selects the next token.
    """
    import transcription.libraries  # noqa: F401, I001 -- first: it silences what its libraries say when imported
    import torch
    from ctranslate2.converters import TransformersConverter  # type: ignore[import-untyped]
    from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = _tokenizer()
    end, begin = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|startoftranscript|>")
    width = 64
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=tokenizer.get_vocab_size(), num_mel_bins=80, d_model=width, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=width, decoder_ffn_dim=width,
            max_source_positions=1500, max_target_positions=448, pad_token_id=end, bos_token_id=end, eos_token_id=end,
            decoder_start_token_id=begin,
        )
    )  # fmt: skip
    with torch.no_grad():
        decoder = model.model.decoder
        tokens = torch.nn.functional.normalize(torch.randn(tokenizer.get_vocab_size(), width), dim=1)
        decoder.embed_tokens.weight.copy_(tokens)
        model.proj_out.weight.copy_(tokens)
        positions = tokens[end].repeat(448, 1)
        positions[0] = tokens[tokenizer.token_to_id(f"<|{language}|>")]
        ids = tokenizer.encode(" " + said, add_special_tokens=False).ids
        times = tokenizer.token_to_id("<|0.00|>"), tokenizer.token_to_id("<|30.00|>")
        for place, token in enumerate([times[0], *ids, times[1]], 2):  # the task predicts the first time stamp
            positions[place] = tokens[token]
        decoder.embed_positions.weight.copy_(8 * positions)
        for layer in decoder.layers:
            for part in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
                part.weight.zero_()
                part.bias.zero_()
        decoder.layer_norm.weight.fill_(4.0)
        decoder.layer_norm.bias.zero_()
    model.generation_config = GenerationConfig(
        suppress_tokens=[begin], begin_suppress_tokens=[end], alignment_heads=[[0, 0]], max_length=448,
        lang_to_id={f"<|{name}|>": tokenizer.token_to_id(f"<|{name}|>") for name in _languages()},
        eos_token_id=end, decoder_start_token_id=begin, is_multilingual=True,
    )  # fmt: skip
    source = folder / "transformers"
    model.save_pretrained(source)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    ).save_pretrained(source)
    target = folder / "model"
    TransformersConverter(str(source), load_as_float16=False).convert(str(target), quantization="int8")
    tokenizer.save(str(target / "tokenizer.json"))
    (target / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80}))
    return target


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_whisper(tmp_path_factory.mktemp("tiny-whisper"), SAID, "en")


@pytest.fixture(scope="module")
def tiny(tiny_whisper: Path) -> Iterator[WhisperxTranscriber]:
    engine = load(tiny_whisper)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def real() -> Iterator[WhisperxTranscriber]:
    """Whisper base, multilingual; `make test` fetches it with the demo's models."""
    root = Path(os.environ.get("MODELS_ROOT") or REPOSITORY / "models")
    engine = load(root / "demo" / "whisper-base", name="base", batch_size=4)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def samples() -> dict[str, Sample]:
    """The sample clips that can be decoded, by file name."""
    clips = tomllib.loads((SAMPLES / "manifest.toml").read_text())["clip"]
    return {
        clip["file"]: Sample(
            decode(SAMPLES / "clips" / clip["file"]), clip.get("text", ""), clip.get("language", ""), clip["end"]
        )
        for clip in clips
        if clip["end"] != "failed"
    }


@pytest.fixture(scope="session")
def speech(samples: dict[str, Sample]) -> npt.NDArray[np.float32]:
    """About ten seconds of English speech."""
    spoken = [clip.samples for clip in samples.values() if clip.end == "done" and clip.language == "en"]
    return min(spoken, key=len)
