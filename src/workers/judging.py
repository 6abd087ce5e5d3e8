"""From transcripts to verdicts: every transcript with speech is scored for every policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from db import Verdict
from moderation.policies import Policy
from moderation.scorer import Score, Scorer
from transcription import Transcript


def judge(
    scorer: Scorer,
    policies: Sequence[Policy],
    transcripts: Sequence[Transcript],
    on_progress: Callable[[], None] = lambda: None,
) -> list[list[Verdict]]:
    """The verdicts of each transcript: one for each policy, in their order; none without speech.

    A policy is scored for all texts at once, so that they fill the model's batches. `on_progress` is called after each
    policy. Raises what `Scorer.score` raises.
    """
    texts = [transcript.text for transcript in transcripts if not transcript.no_speech]
    verdicts: list[list[Verdict]] = [[] for _ in texts]
    for policy in policies if texts else ():
        for found, score in zip(verdicts, scorer.score(policy, texts), strict=True):
            found.append(_verdict(scorer, policy, score))
        on_progress()
    in_order = iter(verdicts)
    return [[] if transcript.no_speech else next(in_order) for transcript in transcripts]


def _verdict(scorer: Scorer, policy: Policy, score: Score) -> Verdict:
    threshold = scorer.threshold(policy)
    return Verdict(
        policy=policy.id,
        policy_version=policy.version,
        policy_sha256=policy.sha256,
        model=scorer.name,
        prompt_version=scorer.prompt_version,
        violates=score.p_violation >= threshold,
        score=score.p_violation,
        threshold=threshold,
        mass=score.p_answer,
        truncated=score.truncated,
    )
