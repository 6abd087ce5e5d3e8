"""A scorer that needs no model: the more words of a text stand in the policy's overview, the higher its score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from moderation.policies import Policy
from moderation.scorer import Score


@dataclass
class ScriptedScorer:
    name: str = "scripted"
    prompt_version: str = "scripted-1"
    thresholds: Mapping[str, float] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # (policy, version, text) of every score so far
    before: Callable[[Policy], None] = lambda _: None  # called before each answer

    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:
        self.before(policy)
        self.asked += [(policy.id, policy.version, text) for text in texts]
        return [Score(share(policy, text), 1.0, truncated=False) for text in texts]

    def threshold(self, policy: Policy) -> float:
        return self.thresholds.get(policy.id, policy.threshold)


def share(policy: Policy, text: str) -> float:
    words, known = text.split(), policy.overview.split()
    return sum(word in known for word in words) / len(words)
