"""Scores texts under a policy with one forward pass for each text, for every format of `adapters`.

This module avoids these known errors:

- Padding can move the answer. Here batches are padded on the right, and each prompt is read at its own last token.
- Logits over 256,000 tokens for every position cost memory. Here only those of each prompt's last token are computed.
- The policy is the same for every text. Its part of the work is done once and shared (`prefix_cache`).
- The same text may come many times (a sound that is used again). Equal texts of one call are computed once.
- The end of a long prompt must not be cut off. Here only the content is shortened (`prompt_ids`).
- A batch may be too large for what the device has free now. Here it is halved, and the size that works is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from errors import DeviceMemoryError, ModelError, OperatorError
from moderation.adapters import PolicyText
from moderation.policies import Policy
from moderation.prefix_cache import PrefixCache, shared_start
from moderation.prompt_ids import PromptBuilder, PromptIds
from moderation.scorer import Score
from moderation.thresholds import threshold_of
from system.batch_limit import BatchLimit
from system.device import is_out_of_memory

log = logging.getLogger(__name__)

Answer = tuple[float, float]  # p_violation, p_answer


@dataclass(frozen=True)
class _Batch:
    """Prompts that are computed together: they share their first `shared` tokens, which are computed before."""

    numbers: list[int]
    shared: int
    tokens: int  # computed in the pass: the prompts' own tokens, padded to the longest


class PolicyScorer:
    """The `Scorer` for one loaded model; made by `loading.load_scorer`."""

    def __init__(
        self,
        model: Any,
        prompts: PromptBuilder,
        *,
        name: str,
        prompt_version: str,
        policy_text: PolicyText,
        thresholds: Mapping[str, float],
        tokens_per_batch: int,
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._policy_text = policy_text
        self._thresholds = dict(thresholds)
        self._limit = BatchLimit(tokens_per_batch)
        self._answers = list(prompts.answers)
        self._prefixes = PrefixCache(model)
        self.name = name
        self.prompt_version = prompt_version

    def threshold(self, policy: Policy) -> float:
        """The model's own threshold for this version of the policy, or the policy's if the model has none."""
        return threshold_of(policy, self._thresholds)

    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:
        """Score each text as `Scorer` describes. Texts of similar length share a forward pass."""
        different = list(dict.fromkeys(texts))
        prompts = [self._prompt(policy, text) for text in different]
        head = self._prompts.head(self._wording(policy))
        answers = self._answer([prompt.ids for prompt in prompts], head)
        scores = {
            text: Score(*answer, prompt.truncated)
            for text, answer, prompt in zip(different, answers, prompts, strict=True)
        }
        return [scores[text] for text in texts]

    def p_answer_on_probe(self) -> float:
        """The probability of the two answers together on a short prompt; about 1 when model and prompt match."""
        return self._answer([self._prompts.probe().ids], [])[0][1]

    def _prompt(self, policy: Policy, text: str) -> PromptIds:
        try:
            return self._prompts.build(self._wording(policy), text)
        except ValueError as error:
            raise OperatorError(f"the policy {policy.id} is too long for {self.name}: {error}; shorten it") from error

    def _wording(self, policy: Policy) -> str:
        return policy.overview if self._policy_text == "overview" else policy.body

    def _answer(self, prompts: Sequence[list[int]], head: Sequence[int]) -> list[Answer]:
        """The answer to each prompt; `head` are the tokens at the start of all prompts of the policy."""
        answers: dict[int, Answer] = {}
        shared = [shared_start(ids, head) for ids in prompts]
        # Prompts with an equal beginning stand together, the longest first.
        waiting = sorted(range(len(prompts)), key=lambda number: (shared[number], -len(prompts[number])))
        while waiting:
            batch = _first_batch(waiting, prompts, shared, self._limit.size)
            found = self._try_batch(batch, prompts)
            if found is None:
                self._after_out_of_memory(batch)
                continue
            answers.update(zip(batch.numbers, found, strict=True))
            del waiting[: len(batch.numbers)]
        return [answers[number] for number in range(len(prompts))]

    def _try_batch(self, batch: _Batch, prompts: Sequence[list[int]]) -> list[Answer] | None:
        """The answers of a batch, or None if the device ran out of memory and a smaller batch can be tried.

        The error is not kept: it refers to the tensors of the failed pass, whose memory the next one needs.
        """
        chosen = [prompts[number] for number in batch.numbers]
        try:
            return self._forward(chosen, batch.shared)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(chosen) > 1:
                return None
            raise DeviceMemoryError(
                f"the device ran out of memory while scoring one text of {len(chosen[0])} tokens under its policy; free"
                " memory on it (`nvidia-smi` shows the programs on a GPU), reduce BATCH_SIZE, so that the speech model"
                f" takes less, or give the model set a smaller max_tokens ({error})"
            ) from error

    def _after_out_of_memory(self, batch: _Batch) -> None:
        self._prefixes.forget()
        _free_unused(self._model.device)
        # A batch may be smaller than the limit, because there were no more texts: halve until it would not fit.
        while self._limit.size >= batch.tokens and self._limit.halved():
            pass
        log.warning(
            "out of memory with %d texts at once; from now on at most %d tokens at once",
            len(batch.numbers), self._limit.size,
        )  # fmt: skip

    def _forward(self, prompts: Sequence[list[int]], shared: int) -> list[Answer]:
        import torch

        tails = [ids[shared:] for ids in prompts]
        width = max(map(len, tails))
        # Padded on the right: padding between the shared tokens and a text's own tokens would shift a sliding window.
        # No token attends to tokens on its right, so the value of the padding does not matter.
        ids = torch.tensor([tail + [0] * (width - len(tail)) for tail in tails])
        mask = torch.tensor([[1] * (shared + len(tail)) + [0] * (width - len(tail)) for tail in tails])
        device = self._model.device
        rows, ends = torch.arange(len(tails), device=device), torch.tensor([len(tail) - 1 for tail in tails])
        with torch.inference_mode():
            cache = self._prefixes.for_batch(prompts[0][:shared], len(tails)) if shared else None
            with _logits_only_at(self._model, rows, ends.to(device)):
                logits = self._model(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    past_key_values=cache,
                    use_cache=cache is not None,
                ).logits
        if logits.shape[1] != 1:
            raise ModelError(f"{self.name} computes logits past its output layer, so one position cannot be chosen")
        # float32: in bfloat16 a probability near 1 has steps of 0.004.
        logits = logits[:, 0].float()
        answers = logits[:, self._answers]
        violations = torch.softmax(answers, dim=-1)[:, 1]  # over the two only: both probabilities may be 0 in float32
        answered = (torch.logsumexp(answers, dim=-1) - torch.logsumexp(logits, dim=-1)).exp()
        return list(zip(violations.tolist(), answered.tolist(), strict=True))


def _first_batch(waiting: Sequence[int], prompts: Sequence[list[int]], shared: Sequence[int], limit: int) -> _Batch:
    """The first prompts that may be computed together: equally much shared, and at most `limit` tokens computed."""
    same = shared[waiting[0]]
    width = len(prompts[waiting[0]]) - same  # the longest is first
    count = 1
    while count < len(waiting) and shared[waiting[count]] == same and width * (count + 1) <= limit:
        count += 1
    return _Batch(list(waiting[:count]), same, width * count)


@contextmanager
def _logits_only_at(model: Any, rows: Any, ends: Any) -> Iterator[None]:
    """Within, the model computes the logits of one position for each row; their shape is (rows, 1, vocabulary).

    The models' own argument `logits_to_keep` chooses the same positions for every row: a batch of 16 lengths would
    compute 16 times as many logits as it needs.
    """

    def keep(_layer: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0][rows, ends].unsqueeze(1), *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def _free_unused(device: Any) -> None:
    """Give back what torch keeps of a GPU's memory for later, so that a smaller batch finds room in one piece."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
