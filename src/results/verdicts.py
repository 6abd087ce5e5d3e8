"""From a score to the verdict that is stored: the threshold decides, and everything that traces it is recorded."""

from __future__ import annotations

from moderation.judging import Judge
from moderation.policies import Policy
from moderation.scorer import Score
from results.judged_text import JudgedText
from results.rows import Verdict


def verdict_on(text: JudgedText, policy: Policy, score: Score, judge: Judge) -> Verdict:
    """The verdict that this score means; `judge` is the model that gave it."""
    threshold = judge.threshold(policy)
    return Verdict(
        policy=policy.id,
        policy_version=policy.version,
        policy_sha256=policy.sha256,
        model=judge.name,
        prompt_version=judge.prompt_version,
        violates=score.p_violation >= threshold,
        score=score.p_violation,
        threshold=threshold,
        mass=score.p_answer,
        truncated=score.truncated,
        judged=text.judged,
        text_sha256=text.sha256,
    )
