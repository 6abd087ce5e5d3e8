"""A causal model split for training: lower layers that stay frozen, upper layers that learn.

No gradient flows through the lower layers and no adapter sits on them, so what they compute for a text never changes:
it is computed once, kept, and every round of training starts from there. That halves the work on a CPU.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import torch

from local.demo_classifier.scorer import Answer, Scorer, shared_prefix

EARLY_LAYERS = 7  # upper layers whose states must already tell the verdict in training: halfway through the model
Layers = tuple[torch.Tensor, ...]  # states of one text before the first layer, after each layer, and after the norm


@dataclass(frozen=True)
class Prepared:
    """States after the lower layers, bf16: of the shared prefix, (P, hidden), and of each text's tail, (T, hidden)."""

    prefix: torch.Tensor
    tails: list[torch.Tensor]


class Halves:
    """The lower and the upper layers of a scorer's model, as two decoders that share its weights.

    `split` layers lie below. The layers are renumbered for the key-value caches of their half, so the whole model must
    not be called while this object is in use; `join` gives the layers their numbers back.
    """

    def __init__(self, scorer: Scorer, split: int) -> None:
        self.scorer = scorer
        decoder = scorer.causal_lm.model
        self.layers = decoder.layers
        self.lower, self.upper = (
            part(decoder, self.layers[:split], last=False),
            part(decoder, self.layers[split:], last=True),
        )

    def join(self) -> None:
        number_layers(self.layers)

    def prepare(self, policy: str, texts: Sequence[str], batch: int) -> Prepared:
        """States of all texts after the lower layers, in order; `batch` texts are computed at a time."""
        token_ids = [self.scorer.prompt_ids(policy, text) for text in texts]
        shared = shared_prefix(token_ids)
        order = sorted(range(len(texts)), key=lambda index: len(token_ids[index]))
        embed = self.scorer.causal_lm.get_input_embeddings()
        tails: dict[int, torch.Tensor] = {}
        prefix = torch.empty(0)
        with torch.inference_mode():
            prefix_in = embed(torch.tensor(token_ids[0][:shared]))
            for start in range(0, len(order), batch):
                chosen = order[start : start + batch]
                inputs = [embed(torch.tensor(token_ids[index][shared:])) for index in chosen]
                prefix, states = run(self.lower, prefix_in, inputs)
                tails.update({i: s[-1].bfloat16().clone() for i, s in zip(chosen, states, strict=True)})
        return Prepared(prefix.bfloat16().clone(), [tails[index] for index in range(len(texts))])

    def answers(self, prefix: torch.Tensor, tails: list[torch.Tensor]) -> tuple[Answer, torch.Tensor]:
        """What `Scorer.score` answers, from prepared states; and the mean over each tail of the states after
        EARLY_LAYERS upper layers, normalized, shape (B, hidden).
        """
        _, states = run(self.upper, prefix, tails)
        last = torch.stack([layers[-1][-1] for layers in states])
        mean = torch.stack([layers[EARLY_LAYERS].mean(dim=0) for layers in states])
        return self.scorer.answer(last), torch.nn.functional.layer_norm(mean.float(), mean.shape[-1:])


def number_layers(layers: Sequence[torch.nn.Module]) -> None:
    for number, layer in enumerate(layers):
        layer.self_attn.layer_idx = number


def part(decoder: torch.nn.Module, layers: Sequence[torch.nn.Module], *, last: bool) -> torch.nn.Module:
    """A decoder of only these layers; only the last part keeps the final norm."""
    number_layers(layers)
    half = copy(decoder)
    half._modules = dict(decoder._modules)  # noqa: SLF001 - a shallow copy shares this table with the whole
    half.config = copy(decoder.config)
    half.config.num_hidden_layers = len(layers)
    half.layers = torch.nn.ModuleList(layers)
    if not last:
        half.norm = torch.nn.Identity()
    return half


def run(half: torch.nn.Module, prefix: torch.Tensor, tails: list[torch.Tensor]) -> tuple[torch.Tensor, list[Layers]]:
    """States of a half: of the prefix the last, (P, hidden), and of every tail those of all layers, (T_i, hidden) each.

    The prefix runs once. Tails are padded on the right, where causal attention keeps the padding out of everything
    before it.
    """
    lengths = [len(tail) for tail in tails]
    longest, count = max(lengths), len(tails)
    first = half(inputs_embeds=prefix[None], use_cache=True)
    cache = first.past_key_values
    cache.batch_repeat_interleave(count)
    padded = torch.nn.utils.rnn.pad_sequence(tails, batch_first=True)
    real = torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]
    mask = torch.cat([torch.ones(count, len(prefix), dtype=torch.bool), real], dim=1).long()
    found = half(
        inputs_embeds=padded, attention_mask=mask, past_key_values=cache, output_hidden_states=True
    ).hidden_states
    tails_found = [tuple(states[row, :length] for states in found) for row, length in enumerate(lengths)]
    return first.last_hidden_state[0], tails_found
