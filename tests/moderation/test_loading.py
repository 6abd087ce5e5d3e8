"""A model is loaded only if its files, its adapter and its answers are what they should be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from errors import ModelError
from moderation.adapters.cope_a import CopeA
from moderation.loading import load_scorer
from moderation.policies import Policy
from tests.moderation.tiny_model import CPU, TinyModel

POLICY = Policy("spam", "1.0.0", "Spam", 0.5, "No spam.", "## Overview\n\nNo spam.\n\n## More\n\nRules.", "0")


def test_the_adapter_makes_a_difference(tiny: TinyModel) -> None:
    with_adapter, without = (
        load_scorer(replace(tiny, adapter=adapter).files(), CPU).score(POLICY, ["hi"])[0].p_violation
        for adapter in (tiny.adapter, None)
    )
    assert with_adapter != pytest.approx(without, abs=1e-4)


def test_a_model_that_wants_to_say_something_else_is_refused(tiny: TinyModel) -> None:
    with pytest.raises(ModelError, match='does not answer "0" or "1"') as caught:
        load_scorer(tiny.files(min_p_answer=0.9), CPU)
    assert str(tiny.adapter) in str(caught.value)
    assert 'format "cope-a"' in str(caught.value)


def test_missing_files_are_named_with_the_command_that_brings_them(tiny: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="python -m models fetch") as caught:
        load_scorer(replace(tiny, adapter=tmp_path / "nowhere").files(), CPU)
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_damaged_weights_are_a_model_error(tiny: TinyModel, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny.base, base)
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be read"):
        load_scorer(TinyModel(base, None).files(), CPU)


def test_an_adapter_for_another_model_is_refused(tiny: TinyModel, tmp_path: Path) -> None:
    assert tiny.adapter is not None
    adapter = tmp_path / "adapter"
    shutil.copytree(tiny.adapter, adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["target_modules"] = ["c_attn"]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be read"):
        load_scorer(replace(tiny, adapter=adapter).files(), CPU)


def test_a_chat_format_needs_a_chat_template(tiny: TinyModel) -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        load_scorer(tiny.files(format="cope-b"), CPU)


def test_a_models_threshold_belongs_to_a_version_of_a_policy(tiny: TinyModel) -> None:
    scorer = load_scorer(tiny.files(thresholds={"spam@1.0.0": 0.9}), CPU)
    assert scorer.threshold(POLICY) == 0.9
    assert scorer.threshold(replace(POLICY, version="1.0.1")) == POLICY.threshold
    assert load_scorer(tiny.files(), CPU).threshold(POLICY) == POLICY.threshold


def test_a_small_model_may_read_the_overview_only(tiny: TinyModel) -> None:
    small = load_scorer(tiny.files(policy_text="overview"), CPU)
    full = load_scorer(tiny.files(), CPU)
    assert small.prompt_version == f"{CopeA.version}-overview"
    assert full.prompt_version == CopeA.version
    overview_policy = replace(POLICY, overview="", body=POLICY.overview)
    assert small.score(POLICY, ["hi"])[0].p_violation == pytest.approx(
        full.score(overview_policy, ["hi"])[0].p_violation, abs=1e-6
    )
