"""CoPE-A: a LoRA adapter on a base language model that answers "does this text meet this policy?" with one token.

One forward pass per text; the answer is the comparison of two logits behind the prompt. Nothing is generated and no
text is parsed, so there is no unreadable answer. What has gone wrong elsewhere, and is ruled out here:

- Gemma-2 under SDPA silently drops its attention soft-cap: attention is "eager", checked after loading;
- padding that moves the answer: batches are padded on the right, and each is read at its own last token;
- logits over 256,000 tokens for every position: only those of the last tokens are computed;
- the policy computed anew for every text: it is computed once and shared (`prefix_cache`);
- an adapter merged into quantised weights: it is merged in the dtype of loading (bfloat16 or float32);
- a prompt whose end is cut off: only the content is shortened (`prompt`).

The real CoPE-A was trained on US English; other languages degrade, and the transcript's language is recorded beside.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from errors import ModelError, OperatorError
from moderation.policies import Policy
from moderation.prefix_cache import PrefixCache, shared_start
from moderation.prompt import PROMPT_VERSION, Prompt, build_prompt, fit_prompt, prompt_head
from moderation.scorer import Score
from system.device import Device, is_out_of_memory, out_of_memory_explained

MAX_TOKENS = 8192  # CoPE-A's window for policy and content together
TOKENS_PER_BATCH = 8192  # padded tokens in one forward pass: bounds memory whatever the lengths
TOKENS_PER_CPU_BATCH = 2048  # a CPU gains nothing from more
_PROBE_POLICY = "## Overview\n\nThis policy covers threats of violence."
_PROBE_TEXT = "I walked the dog and then I made some tea."

log = logging.getLogger(__name__)


class CopeA:
    """The `Scorer` over one loaded model; made by `load_cope_a`."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        reads: Literal["full", "overview"],
        thresholds: Mapping[str, float],
        max_tokens: int,
        tokens_per_batch: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._reads = reads
        self._thresholds = dict(thresholds)
        self._max_tokens = max_tokens
        self._tokens_per_batch = tokens_per_batch
        self._answers = answer_ids(tokenizer)
        self._start = _start_ids(tokenizer)
        self._prefixes = PrefixCache(model)
        self.name = name
        self.prompt_version = PROMPT_VERSION if reads == "full" else f"{PROMPT_VERSION}-{reads}"

    def threshold(self, policy: Policy) -> float:
        """The model's own threshold for the policy where there is one, else the policy's."""
        return self._thresholds.get(policy.id, policy.threshold)

    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:
        """See `Scorer`. Texts of similar length share a forward pass."""
        prompts = [self._prompt(policy, text) for text in texts]
        ids = [self.encode(prompt.text) for prompt in prompts]
        head = self.encode(prompt_head(self._wording(policy)))
        scores: dict[int, Score] = {}
        for batch in _batches([len(item) for item in ids], self._tokens_per_batch):
            with out_of_memory_explained(
                f"scoring {len(batch)} texts at once", "reduce BATCH_SIZE, which leaves the speech model less"
            ):
                results = self._forward([ids[index] for index in batch], head)
            for index, (p_violation, mass) in zip(batch, results, strict=True):
                scores[index] = Score(p_violation, mass, prompts[index].truncated)
        return [scores[index] for index in range(len(texts))]

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt: what the tokenizer puts first, once, and nothing behind."""
        ids: list[int] = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return self._start + ids

    def _prompt(self, policy: Policy, text: str) -> Prompt:
        for special in self._tokenizer.all_special_tokens:
            # A clip must not be able to speak the model's control tokens; this keeps them ordinary text.
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
            raise OperatorError(f"the policy {policy.id} is too long for {self.name}: {error}") from error

    def _wording(self, policy: Policy) -> str:
        return policy.overview if self._reads == "overview" else policy.body

    def _forward(self, batch: Sequence[list[int]], head: Sequence[int] = ()) -> list[tuple[float, float]]:
        """(p_violation, mass) of each prompt; `head` are the tokens with which the policy's prompts open."""
        import torch

        shared = shared_start(batch, head)
        cache = self._prefixes.for_batch(head[:shared], len(batch)) if shared else None
        tails = [item[shared:] for item in batch]
        width = max(map(len, tails))
        # Padded on the right: between shared tokens and a text's own, padding would shift what lies inside a sliding
        # window. Nothing looks to its right, so any filler does.
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
        violations = torch.softmax(answers, dim=-1)[:, 1]  # of the two alone: their masses may both be 0 in float32
        masses = (torch.logsumexp(answers, dim=-1) - torch.logsumexp(logits, dim=-1)).exp()
        return list(zip(violations.tolist(), masses.tolist(), strict=True))


def load_cope_a(
    base_dir: Path,
    adapter_dir: Path | None,
    *,
    device: Device,
    name: str,
    reads: Literal["full", "overview"] = "full",
    thresholds: Mapping[str, float] | None = None,
    max_tokens: int = MAX_TOKENS,
    min_mass: float = 0.0,
) -> CopeA:
    """Load the base model, merge the adapter into it, and check that the two answers are what it wants to say.

    `reads="overview"` shows the model only the policy's overview, for models too small for the whole policy.
    `thresholds` (policy id to threshold) overrides the policies' own. `adapter_dir=None` takes the base as it is.

    Raises
    ------
    ModelError
        Files are missing or unreadable, the attention lacks the soft-cap, or on a probe prompt p("0") + p("1") is below
        `min_mass`: then prompt, adapter and base do not belong together.
    OperatorError
        The device lacks the memory.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # transformers 4.57 warns of a wrong Mistral tokenizer whenever any tokenizer is read from a folder.
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
        reads=reads,
        thresholds=thresholds or {},
        max_tokens=max_tokens,
        tokens_per_batch=budget,
    )
    mass = scorer._forward([scorer.encode(build_prompt(_PROBE_POLICY, _PROBE_TEXT))])[0][1]  # noqa: SLF001  same module
    log.info("moderation model %s from %s on %s; mass at the answer %.4f", name, base_dir, device.description, mass)
    if mass < min_mass:
        raise ModelError(
            f'{name} does not answer "0" or "1": their probability on a probe is {mass:.4f}, and must be {min_mass} or'
            f" more; check that {adapter_dir} belongs to {base_dir}"
        )
    return scorer


def _load(base_dir: Path, adapter_dir: Path | None, device: Device) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = getattr(torch, device.dtype)
    tokenizer = AutoTokenizer.from_pretrained(base_dir, local_files_only=True)
    # The device map puts each weight straight where it belongs: 18 GB never stand in the host's memory at once.
    model = AutoModelForCausalLM.from_pretrained(
        base_dir, dtype=dtype, attn_implementation="eager", local_files_only=True, device_map={"": device.name}
    )
    if adapter_dir is not None:
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")  # a wrong adapter must not pass
            try:
                merged = PeftModel.from_pretrained(model, adapter_dir, local_files_only=True)
            except UserWarning as error:
                raise ValueError(str(error)) from error
        model = merged.merge_and_unload()
    return model.eval(), tokenizer


def check_attention(model: Any) -> None:
    """Refuse a model with attention soft-capping that would run without it.

    Raises
    ------
    ModelError
        transformers chose an implementation other than "eager", which alone applies the cap in all versions.
    """
    cap = getattr(model.config, "attn_logit_softcapping", None)
    chosen = getattr(model.config, "_attn_implementation", None)
    if cap is not None and chosen != "eager":
        raise ModelError(f"attention runs as {chosen!r}, which drops the model's soft-cap of {cap}; it must be eager")


def answer_ids(tokenizer: Any) -> tuple[int, int]:
    """The ids of "0" and "1" as they follow the prompt.

    Raises
    ------
    ModelError
        One of them is not a single token there, so that two logits cannot stand for the answer.
    """
    prompt = build_prompt(_PROBE_POLICY, _PROBE_TEXT)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = []
    for answer in ("0", "1"):
        # The prompt is tokenised without its answer, so what counts is what this token adds to the prompt's tokens.
        # Some tokenizers split newlines in front of a digit otherwise than at the end: the lists need not be equal.
        token = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"][-1]
        if token == tokenizer.unk_token_id or tokenizer.decode([*before, token]) != tokenizer.decode(before) + answer:
            raise ModelError(f'"{answer}" is no single token behind the prompt for this tokenizer')
        ids.append(int(token))
    return ids[0], ids[1]


def _start_ids(tokenizer: Any) -> list[int]:
    """The beginning-of-sequence token as a list, empty where there is none.

    It stands there if the tokenizer itself adds it. Gemma gets its `<bos>` in any case: it falls apart without, and
    some copies of its tokenizer have lost the setting that adds it.
    """
    start = tokenizer.bos_token_id
    added = tokenizer("a")["input_ids"][:1] == [start]
    return [start] if start is not None and (added or tokenizer.bos_token == "<bos>") else []  # noqa: S105  a token


def _batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Indices of prompts, similar lengths together, as many as fit when all are padded to the longest."""
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
