"""How verdicts are made, as far as they record it. A loaded model says it, and the manifest says it without loading.

Two processes must agree on it: the GPU worker, which writes verdicts, and whoever asks which clips have current ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from moderation.policies import Policy
from moderation.prompt import PROMPT_VERSION

Reads = Literal["full", "overview"]  # the part of a policy that the prompt holds


class Judge(Protocol):
    """What a `Scorer` says of the verdicts that it makes."""

    @property
    def name(self) -> str: ...

    @property
    def prompt_version(self) -> str: ...

    def threshold(self, policy: Policy) -> float:
        """The lowest `p_violation` at which the policy counts as violated."""
        ...


@dataclass(frozen=True)
class Judging:
    """The `Judge` of a model that is not loaded."""

    name: str  # of the model
    reads: Reads = "full"
    thresholds: Mapping[str, float] = field(default_factory=dict)  # the model's own, by policy id

    @property
    def prompt_version(self) -> str:
        return prompt_version(self.reads)

    def threshold(self, policy: Policy) -> float:
        return threshold(policy, self.thresholds)


def prompt_version(reads: Reads) -> str:
    """The name of the words around policy and text, and of the part of the policy that is among them."""
    return PROMPT_VERSION if reads == "full" else f"{PROMPT_VERSION}-{reads}"


def threshold(policy: Policy, thresholds: Mapping[str, float]) -> float:
    """The model's own threshold for the policy, or the policy's if the model has none."""
    return thresholds.get(policy.id, policy.threshold)
