"""How verdicts are made, as far as they record it. A loaded model says it, and the manifest says it without loading.

Two processes must agree on it: the GPU worker, which writes verdicts, and whoever asks which clips have current ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from moderation.adapters import PolicyText, prompt_version
from moderation.policies import Policy
from moderation.thresholds import threshold_of


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
    format: str = "cope-a"  # of prompt and answer: a key of adapters.FORMATS
    reads: PolicyText = "full"
    thresholds: Mapping[str, float] = field(default_factory=dict)  # the model's own, see `thresholds`

    @property
    def prompt_version(self) -> str:
        return prompt_version(self.format, self.reads)

    def threshold(self, policy: Policy) -> float:
        return threshold_of(policy, self.thresholds)
