"""The prompt of CoPE-A, to the letter, and fitting a text into it.

CoPE-A (zentropi-ai/cope-a-9b) is a plain completion model: no chat template, one beginning-of-sequence token where its
tokenizer has one, and the answer is the single token "0" or "1" right behind the prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PROMPT_VERSION = "cope-a-1"

_HEAD = """INSTRUCTIONS
============

Examine the given POLICY and determine if the given CONTENT meets the criteria for ANY of the LABELS. \
Answer "1" if yes, and "0" if no.


POLICY
======

"""
_BETWEEN = """


CONTENT
=======

"""
_TAIL = """


ANSWER
======

"""
OMISSION = " [...] "  # stands for what was cut out of the middle

Tokenize = Callable[[str], list[int]]  # without special tokens
Detokenize = Callable[[list[int]], str]


@dataclass(frozen=True)
class Prompt:
    """Text as the model reads it; `truncated` when the middle of the content did not fit."""

    text: str
    truncated: bool


def build_prompt(policy: str, content: str) -> str:
    """Put policy and content into the template."""
    return f"{prompt_head(policy)}{content.strip()}{_TAIL}"


def prompt_head(policy: str) -> str:
    """All that stands before the content: equal for every text under one policy, so that its work can be shared."""
    return f"{_HEAD}{policy.strip()}{_BETWEEN}"


def fit_prompt(policy: str, content: str, *, max_tokens: int, tokenize: Tokenize, detokenize: Detokenize) -> Prompt:
    """Build the prompt; when it is longer than `max_tokens`, cut the content's middle, never policy or answer.

    People open and close with what matters to them, so head and tail stay, in equal parts.

    Raises
    ------
    ValueError
        The policy alone leaves no room for content.
    """
    whole = build_prompt(policy, content)
    excess = len(tokenize(whole)) - max_tokens
    if excess <= 0:
        return Prompt(whole, truncated=False)
    tokens = tokenize(content.strip())
    keep = len(tokens) - excess - len(tokenize(OMISSION))
    while keep > 0:
        head, tail = tokens[: (keep + 1) // 2], tokens[len(tokens) - keep // 2 :]
        shortened = detokenize(head).strip() + OMISSION + detokenize(tail).strip()
        text = build_prompt(policy, shortened)
        # Tokens at the seams may merge or split differently than they did in the whole text.
        excess = len(tokenize(text)) - max_tokens
        if excess <= 0:
            return Prompt(text, truncated=True)
        keep -= excess
    raise ValueError(f"the policy leaves no room for content within {max_tokens} tokens")
