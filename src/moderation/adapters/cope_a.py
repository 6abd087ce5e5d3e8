"""CoPE-A (zentropi-ai/cope-a-9b): a completion model without a chat template; the answer is "0" or "1".

The prompt begins with one beginning-of-sequence token. The answer is the token after the two newlines at its end.
CoPE-A was trained on US English and is less accurate in other languages.
"""

from __future__ import annotations

from typing import Any

from moderation.adapters.interface import Frame

QUESTION = (
    "Examine the given POLICY and determine if the given CONTENT meets the criteria for ANY of the LABELS. "
    'Answer "1" if yes, and "0" if no.'
)
_BEFORE_POLICY = f"""INSTRUCTIONS
============

{QUESTION}


POLICY
======

"""
_BEFORE_CONTENT = """


CONTENT
=======

"""
_AFTER_CONTENT = """


ANSWER
======

"""


class CopeA:
    version = "cope-a-1"
    answers = ("0", "1")

    def frame(self, tokenizer: Any, policy: str) -> Frame:
        """The words around the content, after the tokenizer's start token."""
        before = f"{_BEFORE_POLICY}{policy.strip()}{_BEFORE_CONTENT}"
        return Frame(before, _AFTER_CONTENT, _start_ids(tokenizer))


def build_prompt(policy: str, content: str) -> str:
    """The whole prompt as text, without the start token."""
    return f"{_BEFORE_POLICY}{policy.strip()}{_BEFORE_CONTENT}{content.strip()}{_AFTER_CONTENT}"


def _start_ids(tokenizer: Any) -> tuple[int, ...]:
    """The beginning-of-sequence token, or nothing.

    It is there if the tokenizer itself adds it. Gemma always gets its `<bos>`: it gives wrong answers without it, and
    some copies of its tokenizer lack the setting that adds it.
    """
    start = tokenizer.bos_token_id
    added = tokenizer("a")["input_ids"][:1] == [start]
    return (start,) if start is not None and (added or tokenizer.bos_token == "<bos>") else ()  # noqa: S105  a token
