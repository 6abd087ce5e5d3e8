"""CoPE-A: a LoRA adapter on a base language model that answers "does this text meet this policy?" with one token.

Each text takes one forward pass. The answer comes from comparing two logits after the prompt. Nothing is generated and
no output is parsed, so every text has an answer. This module avoids these known errors:

- Gemma-2 under SDPA drops its attention soft-cap without a message. Here attention is "eager", checked after loading.
- Padding can move the answer. Here batches are padded on the right, and each prompt is read at its own last token.
- Logits over 256,000 tokens for every position cost memory. Here only those of the last tokens are computed.
- The policy is the same for every text. Its part of the work is done once and shared (`prefix_cache`).
- An adapter merged into quantised weights loses accuracy. Here it is merged in the dtype of loading (bfloat16 or
  float32).
- The end of a long prompt must not be cut off. Here only the content is shortened (`prompt`).

CoPE-A was trained on US English and is less accurate in other languages. The transcript records the language.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from errors import ModelError, OperatorError
from moderation.judging import prompt_version, threshold
from moderation.policies import Policy
from moderation.prefix_cache import PrefixCache, shared_start
from moderation.prompt import Prompt, build_prompt, fit_prompt, prompt_head
from moderation.scorer import Score
from system.device import Device, is_out_of_memory, out_of_memory_explained

MAX_TOKENS = 8192  # CoPE-A's window for policy and content together
TOKENS_PER_BATCH = 8192  # padded tokens in one forward pass; limits memory for texts of any length
TOKENS_PER_CPU_BATCH = 2048  # a larger batch is not faster on a CPU
_PROBE_POLICY = "## Overview\n\nThis policy covers threats of violence."
_PROBE_TEXT = "I walked the dog and then I made some tea."

log = logging.getLogger(__name__)


class CopeA:
    """The `Scorer` for one loaded model; made by `load_cope_a`."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        policy_text: Literal["full", "overview"],
        thresholds: Mapping[str, float],
        max_tokens: int,
        tokens_per_batch: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._policy_text = policy_text
        self._thresholds = dict(thresholds)
        self._max_tokens = max_tokens
        self._tokens_per_batch = tokens_per_batch
        self._answers = answer_ids(tokenizer)
        self._start = _start_ids(tokenizer)
        self._prefixes = PrefixCache(model)
        self.name = name
        self.prompt_version = prompt_version(policy_text)

    def threshold(self, policy: Policy) -> float:
        """The model's own threshold for the policy, or the policy's threshold if the model has none."""
        return threshold(policy, self._thresholds)

    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:
        """Score each text as `Scorer` describes. Texts of similar length share a forward pass."""
        prompts = [self._prompt(policy, text) for text in texts]
        ids = [self.encode(prompt.text) for prompt in prompts]
        head = self.encode(prompt_head(self._wording(policy)))
        scores: dict[int, Score] = {}
        for batch in _batches([len(item) for item in ids], self._tokens_per_batch):
            with out_of_memory_explained(
                f"scoring {len(batch)} texts at once", "reduce BATCH_SIZE, so that the speech model takes less"
            ):
                results = self._forward([ids[index] for index in batch], head)
            for index, (p_violation, p_answer) in zip(batch, results, strict=True):
                scores[index] = Score(p_violation, p_answer, prompts[index].truncated)
        return [scores[index] for index in range(len(texts))]

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt: the tokenizer's start token once, the prompt's tokens, and no end token."""
        ids: list[int] = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return self._start + ids

    def _prompt(self, policy: Policy, text: str) -> Prompt:
        for special in self._tokenizer.all_special_tokens:
            # A clip's text must not contain the model's control tokens; with a space inside they are ordinary text.
            text = text.replace(special, f"{special[0]} {special[1:]}")
        try:
            return fit_prompt(
                self._wording(policy),
                text,
                max_tokens=self._max_tokens,
                tokenize=self.encode,
                detokenize=self._tokenizer.decode,
            )
        except ValueError as error:
            raise OperatorError(f"the policy {policy.id} is too long for {self.name}: {error}; shorten it") from error

    def _wording(self, policy: Policy) -> str:
        return policy.overview if self._policy_text == "overview" else policy.body

    def _forward(self, batch: Sequence[list[int]], head: Sequence[int] = ()) -> list[tuple[float, float]]:
        """(p_violation, p_answer) of each prompt; `head` are the tokens at the start of all prompts of the policy."""
        import torch

        shared = shared_start(batch, head)
        cache = self._prefixes.for_batch(head[:shared], len(batch)) if shared else None
        tails = [item[shared:] for item in batch]
        width = max(map(len, tails))
        # Padded on the right: padding between the shared tokens and a text's own tokens would shift a sliding window.
        # No token attends to tokens on its right, so the value of the padding does not matter.
        ids = torch.tensor([tail + [0] * (width - len(tail)) for tail in tails])
        mask = torch.tensor([[1] * (shared + len(tail)) + [0] * (width - len(tail)) for tail in tails])
        ends = torch.tensor([len(tail) - 1 for tail in tails])
        columns, column_of = torch.unique(ends, return_inverse=True)
        device = self._model.device
        with torch.inference_mode():
            logits = self._model(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=columns.to(device),
            ).logits
        # float32: in bfloat16 a probability near 1 has steps of 0.004.
        logits = logits[torch.arange(len(tails)), column_of].float()
        answers = logits[:, list(self._answers)]
        violations = torch.softmax(answers, dim=-1)[:, 1]  # over the two only: both probabilities may be 0 in float32
        answered = (torch.logsumexp(answers, dim=-1) - torch.logsumexp(logits, dim=-1)).exp()
        return list(zip(violations.tolist(), answered.tolist(), strict=True))


def load_cope_a(
    base_dir: Path,
    adapter_dir: Path | None,
    *,
    device: Device,
    name: str,
    policy_text: Literal["full", "overview"] = "full",
    thresholds: Mapping[str, float] | None = None,
    max_tokens: int = MAX_TOKENS,
    min_p_answer: float = 0.0,
) -> CopeA:
    """Load the base model, merge the adapter into it, and check on a probe that the model answers "0" or "1".

    With `policy_text="overview"` the prompt holds only the policy's overview, for models too small for the whole
    policy. `thresholds` (policy id to threshold) overrides the policies' thresholds. With `adapter_dir=None` the base
    model is used without an adapter.

    Raises
    ------
    ModelError
        Files are missing or unreadable, the attention lacks the soft-cap, or p("0") + p("1") on a probe prompt is below
        `min_p_answer`: then prompt, adapter and base do not match.
    OperatorError
        The device has too little memory.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # transformers 4.57 warns of a wrong Mistral tokenizer when it reads any tokenizer from a directory.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    _check_files(base_dir, adapter_dir)
    try:
        model, tokenizer = _load(base_dir, adapter_dir, device)
    except Exception as error:  # the libraries raise bare Exception for damaged weights and tokenizers
        if is_out_of_memory(error):
            raise device.too_small(f"the moderation model in {base_dir}", error) from error
        raise ModelError(
            f"the moderation model in {base_dir} (adapter {adapter_dir}) cannot be read ({error}); {_how_to_fetch()}"
        ) from error
    check_attention(model)
    budget = TOKENS_PER_BATCH if device.name == "cuda" else TOKENS_PER_CPU_BATCH
    scorer = CopeA(
        model,
        tokenizer,
        name=name,
        policy_text=policy_text,
        thresholds=thresholds or {},
        max_tokens=max_tokens,
        tokens_per_batch=budget,
    )
    p_answer = scorer._forward([scorer.encode(build_prompt(_PROBE_POLICY, _PROBE_TEXT))])[0][1]  # noqa: SLF001  same module
    log.info("moderation model %s from %s on %s; p_answer %.4f", name, base_dir, device.description, p_answer)
    if p_answer < min_p_answer:
        raise ModelError(
            f'{name} does not answer "0" or "1": on a probe, p("0") + p("1") is {p_answer:.4f}, but must be at least'
            f" {min_p_answer}; check that the adapter {adapter_dir} belongs to the base model {base_dir}"
        )
    return scorer


def _load(base_dir: Path, adapter_dir: Path | None, device: Device) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = getattr(torch, device.dtype)
    tokenizer = AutoTokenizer.from_pretrained(base_dir, local_files_only=True)
    # The device map loads each weight directly to the device, so the host's memory never holds all 18 GB.
    model = AutoModelForCausalLM.from_pretrained(
        base_dir, dtype=dtype, attn_implementation="eager", local_files_only=True, device_map={"": device.name}
    )
    if adapter_dir is not None:
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")  # a wrong adapter is an error
            try:
                merged = PeftModel.from_pretrained(model, adapter_dir, local_files_only=True)
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


def answer_ids(tokenizer: Any) -> tuple[int, int]:
    """The token ids of "0" and "1" after the prompt.

    Raises
    ------
    ModelError
        "0" or "1" is not a single token there, so two logits cannot give the answer.
    """
    prompt = build_prompt(_PROBE_POLICY, _PROBE_TEXT)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = []
    for answer in ("0", "1"):
        # Scoring tokenises the prompt without its answer, so the texts are compared here, not the lists of tokens:
        # some tokenizers split newlines before a digit differently than newlines at the end.
        token = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"][-1]
        if token == tokenizer.unk_token_id or tokenizer.decode([*before, token]) != tokenizer.decode(before) + answer:
            raise ModelError(f'"{answer}" is not a single token after the prompt with this tokenizer')
        ids.append(int(token))
    return ids[0], ids[1]


def _start_ids(tokenizer: Any) -> list[int]:
    """The beginning-of-sequence token as a list, or an empty list.

    The list holds the token if the tokenizer itself adds it. Gemma always gets its `<bos>`: it gives wrong answers
    without it, and some copies of its tokenizer lack the setting that adds it.
    """
    start = tokenizer.bos_token_id
    added = tokenizer("a")["input_ids"][:1] == [start]
    return [start] if start is not None and (added or tokenizer.bos_token == "<bos>") else []  # noqa: S105  a token


def _batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Group prompts of similar length -> lists of their indices, as many as fit when padded to the longest."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batch: list[int] = []
    for index in order:
        if batch and lengths[batch[0]] * (len(batch) + 1) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _check_files(base_dir: Path, adapter_dir: Path | None) -> None:
    wanted = [base_dir / "config.json", base_dir / "tokenizer.json"]
    if adapter_dir is not None:
        wanted.append(adapter_dir / "adapter_config.json")
    missing = [str(path) for path in wanted if not path.is_file()]
    if missing:
        raise ModelError(f"the moderation model is incomplete: {', '.join(missing)} missing; {_how_to_fetch()}")


def _how_to_fetch() -> str:
    return "fetch it with `cd src && python -m models fetch SET`, where SET is the value of MODEL_SET"
