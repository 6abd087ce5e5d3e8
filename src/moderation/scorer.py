"""The interface of a moderation model, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from moderation.policies import Policy


@dataclass(frozen=True)
class Score:
    """The result for one text and one policy."""

    p_violation: float  # the answer "violated" among the two answers, 0..1: with CoPE p("1") / (p("0") + p("1"))
    p_answer: float  # both answers among the whole vocabulary; about 1 when model and prompt match
    truncated: bool  # the middle of the text was cut out, because the text is too long for the model


class Scorer(Protocol):
    """A model that decides whether a text meets a policy. A process loads one; it is not safe for several threads."""

    @property
    def name(self) -> str:
        """The name recorded with every verdict, for example cope-a-9b."""
        ...

    @property
    def prompt_version(self) -> str:
        """The version of the prompt; it changes when the words around policy and text change."""
        ...

    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:
        """Score each text; a result does not depend on the other texts. Never called for clips without speech.

        Raises
        ------
        DeviceMemoryError
            The device ran out of memory, even for one text.
        """
        ...

    def threshold(self, policy: Policy) -> float:
        """The lowest `p_violation` at which this model counts this version of the policy as violated."""
        ...
