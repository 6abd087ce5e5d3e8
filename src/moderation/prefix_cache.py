"""The part of the prompt that all texts under one policy share, computed once.

A policy is several times longer than a transcript, so most of a forward pass would repeat what the last one did. The
keys and values of the shared tokens are kept per prefix; a batch gets them as a cache of its own and computes only what
follows. `Cache.crop()`, which means different things in different releases of transformers, is not used: the kept
tensors are never written to, since appending to a cache makes new ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

KEPT_PREFIXES = 16  # policies in use at the same time; 600 tokens of Gemma-2-9B take 200 MB each in bfloat16


class PrefixCache:
    def __init__(self, model: Any) -> None:
        self._model = model
        self._kept: OrderedDict[tuple[int, ...], list[tuple[Any, Any]]] = OrderedDict()

    def for_batch(self, prefix: Sequence[int], size: int) -> Any:
        """A transformers cache that holds `prefix` (token ids) for each of `size` texts."""
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._states(tuple(prefix))):
            cache.update(keys.expand(size, -1, -1, -1), values.expand(size, -1, -1, -1), layer)
        return cache

    def _states(self, prefix: tuple[int, ...]) -> list[tuple[Any, Any]]:
        """Keys and values of each layer, shape (1, heads, len(prefix), head size)."""
        if prefix not in self._kept:
            self._kept[prefix] = self._compute(prefix)
            if len(self._kept) > KEPT_PREFIXES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(prefix)
        return self._kept[prefix]

    def _compute(self, prefix: tuple[int, ...]) -> list[tuple[Any, Any]]:
        import torch
        from transformers.cache_utils import DynamicCache

        # Without a configuration no layer drops what lies outside a sliding window; the attention mask sees to that.
        cache = DynamicCache()
        with torch.inference_mode():
            ids = torch.tensor([prefix], device=self._model.device)
            self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return [(layer.keys, layer.values) for layer in cache.layers]


def shared_start(batch: Sequence[Sequence[int]], head: Sequence[int]) -> int:
    """How many tokens of `head` open every prompt of the batch.

    Where head and content meet, a tokenizer may merge them, so the last tokens of the head need not be there. At least
    one token of each prompt is left over: its logits are what the pass is for.
    """
    limit = min([len(head), *(len(ids) - 1 for ids in batch)])
    for count, token in enumerate(head[:limit]):
        if any(ids[count] != token for ids in batch):
            return count
    return limit
