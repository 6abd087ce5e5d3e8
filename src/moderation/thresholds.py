"""From which probability on a policy counts as violated.

A threshold that was measured for a model belongs to one version of a policy: with other words, the same model gives
other probabilities. So a model's thresholds have keys like "hate-speech@1.0.0". A version of a policy for which the
model brings no threshold has the one of the policy's own file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from moderation.policies import Policy


def threshold_key(policy: Policy) -> str:
    """The key of a policy's version in a model's thresholds."""
    return f"{policy.id}@{policy.version}"


def threshold_of(policy: Policy, of_the_model: Mapping[str, float]) -> float:
    """The lowest probability at which the policy counts as violated."""
    return of_the_model.get(threshold_key(policy), policy.threshold)


def measured_for_others(policies: Iterable[Policy], of_the_model: Mapping[str, float]) -> dict[str, list[str]]:
    """The policies for which the model has thresholds, but of other versions only -> the keys of those thresholds.

    The keys of the result are like "hate-speech@1.1.0". Such a policy is judged by the threshold of its own file.
    """
    found = {}
    for policy in policies:
        others = sorted(key for key in of_the_model if key.startswith(f"{policy.id}@"))
        if others and threshold_key(policy) not in of_the_model:
            found[threshold_key(policy)] = others
    return found
