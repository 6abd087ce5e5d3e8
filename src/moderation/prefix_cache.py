"""Computes once the part of the prompt that all texts of one policy share.

A policy is several times longer than a transcript, so most of a forward pass would repeat the work of the last one. The
keys and values of the shared tokens are kept per prefix. Each batch gets its own cache with them and computes only the
rest. `Cache.crop()` is not used, because it differs between releases of transformers. The kept tensors are never
changed: appending to a cache makes new tensors.
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
        """Return a transformers cache that holds `prefix` (token ids) for each of `size` texts."""
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._states(tuple(prefix))):
            cache.update(keys.expand(size, -1, -1, -1), values.expand(size, -1, -1, -1), layer)
        return cache

    def forget(self) -> None:
        """Drop all kept prefixes, to free their memory; they are computed again when they are needed."""
        self._kept.clear()

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

        # Without a configuration, no layer drops tokens outside a sliding window; the attention mask hides them.
        cache = DynamicCache()
        with torch.inference_mode():
            ids = torch.tensor([prefix], device=self._model.device)
            self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return [(layer.keys, layer.values) for layer in cache.layers]


def shared_start(ids: Sequence[int], head: Sequence[int]) -> int:
    """The number of tokens of `head` with which the prompt begins.

    A tokenizer may merge the end of the head with the start of the content, so the last tokens of the head may be
    missing. At least one token of the prompt is not counted, because the pass must compute its logits.
    """
    limit = min(len(head), len(ids) - 1)
    return next((count for count in range(limit) if ids[count] != head[count]), limit)
