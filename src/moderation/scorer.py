"""What a moderation model hands back, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from moderation.policies import Policy


@dataclass(frozen=True)
class Score:
    """One text under one policy."""

    p_violation: float  # p("1") / (p("0") + p("1")) at the answer, 0..1
    mass: float  # p("0") + p("1") over the whole vocabulary; about 1 when model and prompt fit each other
    truncated: bool  # the middle of the text did not fit into the model's window


class Scorer(Protocol):
    """A model that decides whether a text meets a policy. One per process, not for two threads."""

    @property
    def name(self) -> str:
        """As recorded with every verdict, for example cope-a-9b."""
        ...

    @property
    def prompt_version(self) -> str:
        """Changes whenever the words around policy and text do."""
        ...

    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:
        """Score each text; a result does not depend on the other texts. Never called for clips without speech.

        Raises
        ------
        DeviceMemoryError
            The device ran out of memory.
        """
        ...

    def threshold(self, policy: Policy) -> float:
        """From which `p_violation` on the policy counts as violated under this model."""
        ...
