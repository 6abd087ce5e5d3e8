"""From texts to verdicts: every text that is to be judged is scored for every policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from db import JudgedText, Verdict, verdict_on
from moderation.policies import Policy
from moderation.scorer import Scorer


def judge(
    scorer: Scorer,
    policies: Sequence[Policy],
    texts: Sequence[JudgedText | None],
    on_progress: Callable[[], None] = lambda: None,
) -> list[list[Verdict]]:
    """The verdicts on each text: one for each policy, in their order; none where there is no text to judge.

    A policy is scored for all texts at once, so that they fill the model's batches. `on_progress` is called after each
    policy. Raises what `Scorer.score` raises.
    """
    judged = [text for text in texts if text is not None]
    verdicts: list[list[Verdict]] = [[] for _ in judged]
    for policy in policies if judged else ():
        scores = scorer.score(policy, [text.text for text in judged])
        for found, text, score in zip(verdicts, judged, scores, strict=True):
            found.append(verdict_on(text, policy, score, scorer))
        on_progress()
    in_order = iter(verdicts)
    return [[] if text is None else next(in_order) for text in texts]
