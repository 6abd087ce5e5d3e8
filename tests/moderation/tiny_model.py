"""A tiny Gemma-2 with random weights, its tokenizer and a LoRA adapter, laid out as the real base and CoPE-A are.

Built at test time: files written by another version of transformers may not load.
"""

from __future__ import annotations

import json
import os
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.sets import ModerationModel
from system.device import Device

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
SPACE = "\u2581"
CORPUS = [
    "INSTRUCTIONS Examine the given POLICY and determine if the given CONTENT meets ANY of the LABELS.",
    "Hate speech, threats of violence, spam and scams. The quick brown fox jumps over the lazy dog.",
] * 3


CPU = Device("cpu", "CPU", "int8", "float32")


@dataclass(frozen=True)  # hence hashable, for caches
class TinyModel:
    base: Path
    adapter: Path | None

    def files(self, **settings: Any) -> ModerationModel:
        """The model as a model set describes it."""
        usual: dict[str, Any] = {
            "name": "tiny", "base": self.base, "adapter": self.adapter, "format": "cope-a", "policy_text": "full",
            "max_tokens": 8192, "thresholds": {}, "min_p_answer": 0.0,
        }  # fmt: skip
        return ModerationModel(**(usual | settings))


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


def build_base(path: Path, *, seed: int = 0, chat_template: str | None = None, words: Sequence[str] = ()) -> None:
    """Save a base model; `words` become single tokens of its tokenizer."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer = build_tokenizer()
    tokenizer.add_tokens(list(words))
    tokenizer.chat_template = chat_template
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


def build_byte_level_tokenizer() -> Any:
    """A byte-level BPE as Granite's: a space belongs to the word behind it, and newlines join into one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        show_progress=False,
        special_tokens=["<bos>", "<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([*CORPUS, "Hello there. 0 1 word\n\n\n\n\nlast", "Yes", "No"] * 3, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<|end_of_text|>")
    made.add_special_tokens({"additional_special_tokens": ["<|start_of_role|>", "<|end_of_role|>"]})
    return made
