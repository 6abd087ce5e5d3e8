"""CoPE-B (zentropi-ai/cope-b-a4b): a chat model that answers CoPE-A's question with "0" or "1".

The question, the policy and the content are one message of the user. The headings INSTRUCTIONS and ANSWER of CoPE-A are
gone: the chat template marks where the message begins and where the model speaks.
"""

from __future__ import annotations

from typing import Any

from moderation.adapters.cope_a import QUESTION
from moderation.adapters.interface import Frame, chat_frame


class CopeB:
    version = "cope-b-1"
    answers = ("0", "1")

    def frame(self, tokenizer: Any, policy: str) -> Frame:
        """The message's words before the content, in the tokenizer's chat template."""
        return chat_frame(tokenizer, f"{QUESTION}\n\n\nPOLICY\n======\n\n{policy.strip()}\n\n\nCONTENT\n=======\n\n")
