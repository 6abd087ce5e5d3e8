"""A threshold belongs to one version of a policy."""

from __future__ import annotations

from dataclasses import replace

from moderation.policies import Policy
from moderation.thresholds import measured_for_others, threshold_of

SPAM = Policy("spam", "1.1.0", "Spam", 0.5, "No spam.", "## Overview\n\nNo spam.", "0")
OF_THE_MODEL = {"spam@1.0.0": 0.8, "spam@1.2.0": 0.7, "spam-calls@1.1.0": 0.9}


def test_another_versions_threshold_does_not_count():
    assert threshold_of(SPAM, OF_THE_MODEL) == 0.5
    assert threshold_of(replace(SPAM, version="1.0.0"), OF_THE_MODEL) == 0.8


def test_a_policy_whose_new_version_was_not_measured_is_named():
    assert measured_for_others([SPAM], OF_THE_MODEL) == {"spam@1.1.0": ["spam@1.0.0", "spam@1.2.0"]}
    assert measured_for_others([replace(SPAM, version="1.2.0")], OF_THE_MODEL) == {}
    assert measured_for_others([replace(SPAM, id="violence")], OF_THE_MODEL) == {}
