"""Granite Guardian 3.0, 3.1 and 3.2 (ibm-granite): a guard model that says whether a message holds a risk, Yes or No.

The content is the user's message. The policy's text becomes the definition of a risk of its own, which the chat
template writes behind the message: so the policy cannot be computed once for all texts, and a verdict costs several
times what it costs with CoPE. These models were trained on definitions of one to three sentences; `reads = "overview"`
in the model set gives them a policy's overview.
"""

from __future__ import annotations

from typing import Any

from moderation.adapters.interface import Frame, chat_frame

_RISK = "policy_violation"  # any name that the template does not define itself


class GraniteGuardian:
    version = "granite-guardian-1"
    answers = ("No", "Yes")

    def frame(self, tokenizer: Any, policy: str) -> Frame:
        """The template's words around the user's message."""
        definition = f"The 'User' message meets the criteria of this policy. {policy.strip()}"
        return chat_frame(tokenizer, guardian_config={"risk_name": _RISK, "risk_definition": definition})
