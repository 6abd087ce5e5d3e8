"""Score texts against a policy with a small causal language model: the prompt, the shared prefix, the two logits.

The model sees the policy's Overview and a transcript and answers "0" or "1" as the next token. Nothing is generated:
the verdict is the difference of the two logits at the last position. The tokens in front of the first difference
between the texts of a batch (instructions and policy) are computed once and shared.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

PROMPT = """INSTRUCTIONS
============

Examine the given POLICY and determine if the given CONTENT meets the criteria for ANY of the LABELS. \
Answer "1" if yes, and "0" if no.


POLICY
======

{policy}


CONTENT
=======

{content}


ANSWER
======

"""
MAX_CONTENT_TOKENS = 192  # 80 spoken words are about 110 tokens; longer texts lose their middle


@dataclass(frozen=True)
class Answer:
    """For a batch of B texts: logit("1") - logit("0"), and the log of p("0") + p("1"); float32, shape (B,)."""

    margin: torch.Tensor
    log_mass: torch.Tensor

    @property
    def p_violation(self) -> torch.Tensor:
        return torch.sigmoid(self.margin)


@dataclass(frozen=True)
class Scorer:
    """A causal model (plain or with an adapter) with its tokenizer and the ids of its two answers."""

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    answer_ids: tuple[int, int]

    def score(self, policy: str, texts: list[str]) -> Answer:
        """Answer for each text. `policy` is an Overview; texts are transcripts, in any order and of any length."""
        token_ids = [self.prompt_ids(policy, text) for text in texts]
        shared = shared_prefix(token_ids)
        tails = [ids[shared:] for ids in token_ids]
        return self.answer(self._last_hidden(token_ids[0][:shared], tails))

    def answer(self, hidden: torch.Tensor) -> Answer:
        """Read the answer from the decoder's state of the last token, shape (B, hidden)."""
        logits = self.causal_lm.lm_head(hidden).float()
        log_p = torch.log_softmax(logits, dim=-1)[:, list(self.answer_ids)]
        return Answer(margin=log_p[:, 1] - log_p[:, 0], log_mass=torch.logsumexp(log_p, dim=-1))

    @property
    def causal_lm(self) -> torch.nn.Module:
        """The model under the adapter: its layers carry the adapter's weights."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    def prompt_ids(self, policy: str, text: str) -> list[int]:
        """Token ids of the whole prompt, the beginning-of-text token included."""
        content = self.tokenizer.encode(text, add_special_tokens=False)
        if len(content) > MAX_CONTENT_TOKENS:
            # the prompt's end must survive, so only the content is cut; head and tail carry most of a clip's point
            half = MAX_CONTENT_TOKENS // 2
            text = self.tokenizer.decode(content[:half]) + " ... " + self.tokenizer.decode(content[-half:])
        ids: list[int] = self.tokenizer.encode(PROMPT.format(policy=policy, content=text))
        return ids

    def _last_hidden(self, prefix: list[int], tails: list[list[int]]) -> torch.Tensor:
        """Hidden state of each text's last token, shape (B, hidden).

        Tails are padded on the right: with causal attention nothing before the padding sees it, and positions need no
        correction.
        """
        decoder = self.causal_lm.model
        count, longest = len(tails), max(map(len, tails))
        lengths = torch.tensor([len(tail) for tail in tails])
        pad = self.tokenizer.pad_token_id or 0
        padded = torch.tensor([tail + [pad] * (longest - len(tail)) for tail in tails])
        cache = decoder(input_ids=torch.tensor([prefix]), use_cache=True).past_key_values
        cache.batch_repeat_interleave(count)
        tail_mask = (torch.arange(longest)[None, :] < lengths[:, None]).long()
        mask = torch.cat([torch.ones(count, len(prefix), dtype=torch.long), tail_mask], dim=1)
        states = decoder(input_ids=padded, attention_mask=mask, past_key_values=cache, use_cache=True)
        last: torch.Tensor = states.last_hidden_state[torch.arange(count), lengths - 1]
        return last


def shared_prefix(token_ids: list[list[int]]) -> int:
    """Number of leading tokens that all prompts share; at least one token of each prompt is left over.

    Compared token by token, because a tokenizer may merge the policy's last newline with the first word.
    """
    limit = min(map(len, token_ids)) - 1
    first = token_ids[0]
    for position in range(limit):
        if any(ids[position] != first[position] for ids in token_ids):
            return position
    # one text, or equal texts: the tail is what follows the last common token
    return limit


def load_base(base: Path, dtype: torch.dtype = torch.float32) -> Scorer:
    """Scorer of the base model in folder `base`, without adapter. `dtype` is that of the weights in memory."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="sdpa").eval()
    zero, one = (tokenizer.convert_tokens_to_ids(answer) for answer in ("0", "1"))
    return Scorer(model, tokenizer, (zero, one))


def load(base: Path, adapter: Path, dtype: torch.dtype = torch.float32) -> Scorer:
    """Scorer of the base model with the adapter merged into its weights."""
    scorer = load_base(base, torch.float32)  # merged in fp32, then rounded once
    merged = PeftModel.from_pretrained(scorer.model, adapter).merge_and_unload()
    return Scorer(merged.to(dtype).eval(), scorer.tokenizer, scorer.answer_ids)
