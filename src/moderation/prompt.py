"""The exact prompt of CoPE-A, and the shortening of texts that are too long for it.

CoPE-A (zentropi-ai/cope-a-9b) is a plain completion model. It has no chat template. The prompt begins with one
beginning-of-sequence token if the tokenizer has one. The answer is the single token "0" or "1" after the prompt.
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
OMISSION = " [...] "  # marks the place where the middle was cut out

Tokenize = Callable[[str], list[int]]  # without special tokens
Detokenize = Callable[[list[int]], str]


@dataclass(frozen=True)
class Prompt:
    """The text of a prompt. `truncated` is True when the middle of the content was cut out."""

    text: str
    truncated: bool


def build_prompt(policy: str, content: str) -> str:
    """Put policy and content into the template."""
    return f"{prompt_head(policy)}{content.strip()}{_TAIL}"


def prompt_head(policy: str) -> str:
    """The text before the content. It is equal for every text of one policy, so its computation can be shared."""
    return f"{_HEAD}{policy.strip()}{_BETWEEN}"


def fit_prompt(policy: str, content: str, *, max_tokens: int, tokenize: Tokenize, detokenize: Detokenize) -> Prompt:
    """Build the prompt. If it is longer than `max_tokens`, cut the middle of the content, never the policy.

    People often say the most important things first and last, so equal parts of the start and the end stay.

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
        # Near the cut, the tokenizer may merge or split tokens differently than in the whole text.
        excess = len(tokenize(text)) - max_tokens
        if excess <= 0:
            return Prompt(text, truncated=True)
        keep -= excess
    raise ValueError(f"the policy leaves no room for content within {max_tokens} tokens")
