"""Loads a moderation model and its adapter, and checks that it answers as its format says.

This module avoids these known errors:

- Gemma-2 under SDPA drops its attention soft-cap without a message. Here attention is "eager", checked after loading.
- An adapter merged into quantised weights loses accuracy. Here it is merged in the dtype of loading (bfloat16 or
  float32).
- A prompt that does not belong to the model gives verdicts that are noise. Here the probability of the two answers
  together is measured on a probe.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from errors import ModelError
from moderation.adapters import FORMATS, PolicyText, prompt_version
from moderation.policy_scorer import PolicyScorer
from moderation.prompt_ids import PromptBuilder
from moderation.tokenizer import load_tokenizer
from system.device import Device, is_out_of_memory

# Computed tokens in one forward pass, padding included; the policy, which is computed before, does not count. On a GPU
# the number limits memory: 40 texts of 200 tokens hold 11 GB of keys and values behind 800 tokens of policy on
# Gemma-2-9B (computed), and a batch that does not fit is halved.
TOKENS_PER_BATCH = 8192
# On a CPU a batch must fit its caches. Milliseconds of processor time per text for budgets of 1 (one text), 256, 512,
# 1024 and 2048 tokens; the demo's model, one thread:
#   full policies (123 tokens behind 972)  float32 609, 620, 649, 740, 993   bfloat16 344, 337, 324, 345, 453
#   overviews (50 tokens behind 146)       float32 296, 217, 203, 203, 209   bfloat16 185, 107, 106, 98, 103
TOKENS_PER_CPU_BATCH = 512

log = logging.getLogger(__name__)


class ModelFiles(Protocol):
    """A moderation model on disk and how to use it; `models.sets.ModerationModel` is one."""

    @property
    def name(self) -> str: ...
    @property
    def base(self) -> Path: ...
    @property
    def adapter(self) -> Path | None: ...
    @property
    def format(self) -> str: ...  # a key of `adapters.FORMATS`
    @property
    def policy_text(self) -> PolicyText: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def thresholds(self) -> Mapping[str, float]: ...
    @property
    def min_p_answer(self) -> float: ...


def load_scorer(files: ModelFiles, device: Device, *, tokens_per_batch: int | None = None) -> PolicyScorer:
    """Load the base model, merge the adapter into it, and check on a probe that the model gives one of its two answers.

    `tokens_per_batch` is the most tokens that one forward pass computes; by default what suits the device.

    Raises
    ------
    ModelError
        Files are missing or unreadable, the attention lacks the soft-cap, or the probability of the two answers on a
        probe prompt is below `files.min_p_answer`: then prompt, adapter and base do not match.
    OperatorError
        The device has too little memory.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _check_files(files)
    try:
        model, tokenizer = _load(files, device)
    except Exception as error:  # the libraries raise bare Exception for damaged weights and tokenizers
        if is_out_of_memory(error):
            raise device.too_small(f"the moderation model in {files.base}", error) from error
        raise ModelError(
            f"the moderation model in {files.base} (adapter {files.adapter}) cannot be read ({error}); {_HOW_TO_FETCH}"
        ) from error
    check_attention(model)
    scorer = PolicyScorer(
        model,
        PromptBuilder(tokenizer, FORMATS[files.format], files.max_tokens),
        name=files.name,
        prompt_version=prompt_version(files.format, files.policy_text),
        policy_text=files.policy_text,
        thresholds=files.thresholds,
        tokens_per_batch=tokens_per_batch or (TOKENS_PER_BATCH if device.name == "cuda" else TOKENS_PER_CPU_BATCH),
    )
    _check_answer(scorer, files, device)
    return scorer


def _check_answer(scorer: PolicyScorer, files: ModelFiles, device: Device) -> None:
    p_answer = scorer.p_answer_on_probe()
    log.info(
        "moderation model %s from %s on %s in %s; p_answer %.4f",
        files.name, files.base, device.description, device.dtype, p_answer,
    )  # fmt: skip
    if p_answer < files.min_p_answer:
        no, yes = FORMATS[files.format].answers
        raise ModelError(
            f'{files.name} does not answer "{no}" or "{yes}": on a probe, p("{no}") + p("{yes}") is {p_answer:.4f}, but'
            f" must be at least {files.min_p_answer}; check that the adapter {files.adapter} belongs to the base model"
            f" {files.base}, and that the model set's format \"{files.format}\" is the model's"
        )


def _load(files: ModelFiles, device: Device) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(files.base)
    # The device map loads each weight directly to the device, so the host's memory never holds all 18 GB.
    model = AutoModelForCausalLM.from_pretrained(
        files.base,
        dtype=getattr(torch, device.dtype),
        attn_implementation="eager",
        local_files_only=True,
        device_map={"": device.name},
    )
    if files.adapter is not None:
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")  # a wrong adapter is an error
            try:
                merged = PeftModel.from_pretrained(model, files.adapter, local_files_only=True)
            except UserWarning as error:
                raise ValueError(str(error)) from error
        model = merged.merge_and_unload()
    return model.eval(), tokenizer


def check_attention(model: Any) -> None:
    """Check that a model with attention soft-capping runs with it.

    Raises
    ------
    ModelError
        transformers chose another implementation than "eager", the only one that applies the cap in all versions.
    """
    cap = getattr(model.config, "attn_logit_softcapping", None)
    chosen = getattr(model.config, "_attn_implementation", None)
    if cap is not None and chosen != "eager":
        raise ModelError(f"attention runs as {chosen!r}, which drops the model's soft-cap of {cap}; it must be 'eager'")


def _check_files(files: ModelFiles) -> None:
    wanted = [files.base / "config.json", files.base / "tokenizer.json"]
    if files.adapter is not None:
        wanted.append(files.adapter / "adapter_config.json")
    missing = [str(path) for path in wanted if not path.is_file()]
    if missing:
        raise ModelError(f"the moderation model is incomplete: {', '.join(missing)} missing; {_HOW_TO_FETCH}")


_HOW_TO_FETCH = "fetch it with `cd src && python -m models fetch SET`, where SET is the value of MODEL_SET"
