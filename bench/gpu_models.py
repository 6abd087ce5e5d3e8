"""Models with the real shapes and random weights: they cost what the real ones cost, and no weights are needed.

Random weights say nothing, so only time, memory and equality can be measured with them. The vocabularies are those of
the demo's models, which have nearly the same size as the real ones.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderation.tokenizer import load_tokenizer

VOCABULARY = 51_865  # of the demo's Whisper; large-v3 has one token more
FRAMES = 1500  # of the encoder's output for 30 s
END = 50_257  # the end token


@dataclass(frozen=True)
class WhisperShape:
    name: str
    width: int
    layers: int  # of the encoder, and as many of the decoder
    heads: int
    mels: int

    @property
    def encoder_flop(self) -> float:
        """Of one window of 30 s: encoder, and the keys and values that the decoder takes from its output."""
        linear = 24 * self.width**2 * FRAMES * self.layers
        attention = 4 * FRAMES**2 * self.width * self.layers
        convolution = 2 * 3 * self.width * (self.mels * 2 * FRAMES + self.width * FRAMES)
        return float(linear + attention + convolution + 4 * self.width**2 * FRAMES * self.layers)

    @property
    def decoder_bytes(self) -> float:
        """Weights that each decoding step reads, in 16 bits: once per batch."""
        return 2.0 * (14 * self.width**2 * self.layers + VOCABULARY * self.width)

    @property
    def cross_bytes(self) -> float:
        """Keys and values of the encoder's output that each decoding step reads, per window."""
        return 2.0 * 2 * FRAMES * self.width * self.layers


@dataclass(frozen=True)
class GemmaShape:
    name: str
    width: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    head_size: int

    @property
    def flop_per_token(self) -> float:
        """Of the matrices in the layers; attention adds little for prompts of this length."""
        attention = 2 * self.width * self.head_size * (self.heads + self.key_heads)
        return 2.0 * self.layers * (attention + 3 * self.width * self.inner)


LARGE_V3 = WhisperShape("whisper large-v3, random weights", 1280, 32, 20, 128)
SMALL_WHISPER = WhisperShape("a small whisper, random weights", 64, 2, 2, 80)
GEMMA_2_9B = GemmaShape("gemma-2-9b, random weights", 3584, 14_336, 42, 16, 8, 256)
SMALL_GEMMA = GemmaShape("a small gemma-2, random weights", 64, 128, 2, 4, 2, 16)


def build_whisper(shape: WhisperShape, sample: Path, target: Path, quantization: str) -> Path:
    """Write a CTranslate2 model of this shape; vocabulary and settings come from the model in `sample`."""
    import torch
    from ctranslate2.converters.transformers import WhisperLoader  # type: ignore[import-untyped]
    from transformers import WhisperConfig, WhisperForConditionalGeneration
    from transformers.modeling_utils import no_init_weights

    config = WhisperConfig(
        vocab_size=VOCABULARY, num_mel_bins=shape.mels, d_model=shape.width,
        encoder_layers=shape.layers, decoder_layers=shape.layers,
        encoder_attention_heads=shape.heads, decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width, decoder_ffn_dim=4 * shape.width, max_source_positions=FRAMES,
    )  # fmt: skip
    with no_init_weights():
        model = WhisperForConditionalGeneration(config).half()
    _fill(model)
    with torch.no_grad():
        spec: Any = WhisperLoader().get_model_spec(model)
    tokens = (sample / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
    spec.register_vocabulary([*tokens, *(f"<|filler-{number}|>" for number in range(VOCABULARY))][:VOCABULARY])
    for name, value in json.loads((sample / "config.json").read_text(encoding="utf-8")).items():
        setattr(spec.config, name, value)
    spec.validate()
    spec.optimize(quantization=quantization)
    target.mkdir(parents=True)
    spec.save(str(target))
    shutil.copyfile(sample / "tokenizer.json", target / "tokenizer.json")
    (target / "preprocessor_config.json").write_text(json.dumps({"feature_size": shape.mels}))
    return target


def build_gemma(shape: GemmaShape, sample: Path, target: Path, dtype: str, device: str) -> Path:
    """Write a Gemma-2 of this shape, with the tokenizer of the model in `sample`."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM
    from transformers.modeling_utils import no_init_weights

    tokenizer: Any = load_tokenizer(sample)
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=shape.width, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.key_heads,
        head_dim=shape.head_size, query_pre_attn_scalar=shape.head_size, attn_implementation="eager",
    )  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with no_init_weights(), torch.device(device):
            model = Gemma2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    _fill(model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def _fill(model: Any) -> None:
    """Give every weight a small random value; each norm keeps its scale, or nothing would get through."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() == 1 and name.endswith("weight") and "Gemma" not in type(model).__name__:
                weights.fill_(1.0)
            elif weights.dim() == 1:
                weights.zero_()
            else:
                weights.normal_(0.0, 0.02)
