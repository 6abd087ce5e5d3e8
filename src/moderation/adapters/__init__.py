"""The formats of prompt and answer that moderation models use, one module each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from moderation.adapters.cope_a import CopeA
from moderation.adapters.cope_b import CopeB
from moderation.adapters.granite_guardian import GraniteGuardian
from moderation.adapters.interface import Frame, PromptFormat

__all__ = ["FORMATS", "Frame", "PolicyText", "PromptFormat", "prompt_version"]

PolicyText = Literal["full", "overview"]  # the part of a policy that the prompt holds

FORMATS: Mapping[str, PromptFormat] = {
    "cope-a": CopeA(),
    "cope-b": CopeB(),
    "granite-guardian": GraniteGuardian(),
}


def prompt_version(format_name: str, policy_text: PolicyText) -> str:
    """The version of the prompt that a model set's models get; needs no model and no tokenizer."""
    version = FORMATS[format_name].version
    return version if policy_text == "full" else f"{version}-{policy_text}"
