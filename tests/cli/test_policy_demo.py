"""`audio-pipeline policy test` with the demo's real model."""

from __future__ import annotations

import json

import pytest


@pytest.mark.thorough
def test_the_demo_model_is_measured_on_a_policys_test_set(cli):
    done = cli("policy", "test", "hate-speech", "--json")
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    assert (found["model"], found["threshold"]) == ("gemma-3-270m-demo", 0.9129)
    assert found["examples"] == sum(found["counts"].values()) > 10
    assert found["recall"]["value"] > 0.5
    assert found["precision"]["value"] > 0.5
    low, high = found["f1"]["interval"]
    assert 0 < low <= found["f1"]["value"] <= high <= 1
