"""Equal texts are scored once: the same sounds and phrases are uploaded again and again."""

from __future__ import annotations

from collections.abc import Sequence

from db import Database
from moderation.policies import Policy
from moderation.scorer import Score, Scorer


class ScoresOnce:
    """A `Scorer` that asks the model only for texts that have no score yet from the policy's text, model and prompt.

    The thread that scores uses `db`, and no other: it must be a connection of its own.
    """

    def __init__(self, scorer: Scorer, db: Database) -> None:
        self._scorer = scorer
        self._db = db

    @property
    def name(self) -> str:
        return self._scorer.name

    @property
    def prompt_version(self) -> str:
        return self._scorer.prompt_version

    def threshold(self, policy: Policy) -> float:
        return self._scorer.threshold(policy)

    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:
        """Score each text; raises what the scorer raises, and OperatorError when Postgres cannot be used."""
        different = list(dict.fromkeys(texts))
        known = self._db.known_scores([policy], different, model=self.name, prompt_version=self.prompt_version)
        scores = {text: score for (_, text), score in known.items()}
        new = [text for text in different if text not in scores]
        if new:
            scores |= zip(new, self._scorer.score(policy, new), strict=True)
        return [scores[text] for text in texts]
