"""Moderation: the content policies, and models that decide whether a text meets a policy."""

from moderation.policies import Policy, load_policies
from moderation.scorer import Score, Scorer

__all__ = ["Policy", "Score", "Scorer", "load_policies"]
