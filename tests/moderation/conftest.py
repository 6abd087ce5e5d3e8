"""A tiny Gemma-2 with random weights, its tokenizer and a LoRA adapter, in files like the real base and CoPE-A.

Built at test time: files written by another version of transformers may not load.
"""

from __future__ import annotations

import json
import os
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
SPACE = "\u2581"
CORPUS = [
    "INSTRUCTIONS Examine the given POLICY and determine if the given CONTENT meets ANY of the LABELS.",
    "Hate speech, threats of violence, spam and scams. The quick brown fox jumps over the lazy dog.",
] * 3


@dataclass(frozen=True)
class TinyModel:
    base: Path
    adapter: Path


def build_tokenizer() -> Any:
    """A byte-level-fallback BPE as Gemma's: spaces as marks, digits and newlines single, one <bos> in front."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.normalizer = normalizers.Replace(" ", SPACE)
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(SPACE, "merged_with_next"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split("\n", "isolated"),
        ]
    )
    letters = [*string.ascii_letters, *string.digits, *string.punctuation, SPACE, "\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        show_progress=False,
        special_tokens=SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)],
        initial_alphabet=letters,
    )
    trained.train_from_iterator(CORPUS, trainer)
    # The trainer makes byte tokens "special", which hides them from the byte fallback: rebuild the model without that.
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=model["vocab"], merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = trained.normalizer, trained.pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
    )


def build_base(path: Path, *, seed: int = 0) -> None:
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            query_pre_attn_scalar=16,
            max_position_embeddings=8192,
            sliding_window=64,  # shorter than the prompts, so that padding is tried against it
            attn_logit_softcapping=2.0,  # random weights give small logits: a low cap makes its absence visible
            final_logit_softcapping=30.0,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=2,
        )
    )
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() == 2:  # the default spread makes all answers alike
                weights.normal_(0, 0.15)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def build_adapter(base: Path, path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=layers),
    )
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:  # it starts at zero: the adapter would do nothing
                weights.normal_(0, 0.05)
    model.save_pretrained(path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    folder = tmp_path_factory.mktemp("tiny-gemma")
    model = TinyModel(folder / "base", folder / "adapter")
    build_base(model.base)
    build_adapter(model.base, model.adapter)
    return model
