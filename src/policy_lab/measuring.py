"""A policy against examples: what the model says of each, the figures, and the mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moderation.policies import Policy
from moderation.scorer import Scorer
from policy_lab.examples import Example
from policy_lab.figures import Confusion

TEXTS_AT_ONCE = 32  # between two steps of a progress bar


@dataclass(frozen=True)
class Scored:
    """An example and the model's answer."""

    example: Example
    score: float  # p_violation, 0..1
    truncated: bool  # the middle of the text did not fit


@dataclass(frozen=True)
class Measured:
    """The result for one policy, at one threshold."""

    policy: Policy
    model: str
    prompt_version: str
    threshold: float
    scored: Sequence[Scored]

    @property
    def confusion(self) -> Confusion:
        return Confusion.count((item.example.violates, self._flags(item)) for item in self.scored)

    @property
    def mistakes(self) -> list[Scored]:
        """Examples with the wrong verdict, those first whose score is farthest on the wrong side of the threshold."""
        wrong = [item for item in self.scored if self._flags(item) != item.example.violates]
        return sorted(wrong, key=lambda item: (-abs(item.score - self.threshold), item.example.line))

    def _flags(self, item: Scored) -> bool:
        return item.score >= self.threshold


def score_examples(
    scorer: Scorer, policy: Policy, examples: Sequence[Example], on_progress: Callable[[int], None] = lambda _: None
) -> list[Scored]:
    """Score each example; `on_progress` gets how many are done since the last call. Raises what `Scorer.score` does."""
    scored: list[Scored] = []
    for start in range(0, len(examples), TEXTS_AT_ONCE):
        part = examples[start : start + TEXTS_AT_ONCE]
        scores = scorer.score(policy, [example.text for example in part])
        scored += [
            Scored(example, score.p_violation, score.truncated) for example, score in zip(part, scores, strict=True)
        ]
        on_progress(len(part))
    return scored


def measure(scorer: Scorer, policy: Policy, scored: Sequence[Scored], threshold: float | None = None) -> Measured:
    """Compare the answers with the labels, at the threshold that a worker uses or at another one."""
    used = scorer.threshold(policy) if threshold is None else threshold
    return Measured(policy, scorer.name, scorer.prompt_version, used, scored)
