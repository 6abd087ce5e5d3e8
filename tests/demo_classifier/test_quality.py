"""The quality of the demo's verdicts, measured with the worker's code on texts that were not used for training."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.demo_classifier.training import overlap
from local.demo_classifier.training.examples import POLICY_IDS, policies
from local.demo_classifier.training.metrics import auc, best_threshold, figures
from models.sets import resolve
from moderation.loading import load_scorer
from moderation.policy_scorer import PolicyScorer
from system.device import choose_device

ADAPTER_LIMIT = 6_000_000  # bytes
EVERY_FOURTH = 4  # of 50 texts: enough to notice a broken adapter; all of them in the thorough form


@pytest.fixture(scope="module")
def scorer(models_root: Path) -> PolicyScorer:
    return load_scorer(resolve("demo", models_root).moderation, choose_device("cpu"))


@pytest.mark.parametrize(
    ("policy", "every"),
    [
        (POLICY_IDS[0], EVERY_FOURTH),
        *(pytest.param(policy, 1, marks=pytest.mark.thorough) for policy in POLICY_IDS),
    ],
)
@pytest.mark.thorough
def test_verdicts_on_texts_it_never_saw(scorer, policy, every):
    from local.demo_classifier.training.evaluate import (  # torch comes with it, which takes a second
        ACCURACY_BAR,
        AUC_BAR,
        sets_of,
    )

    rows = sets_of(policy, ["heldout"])["heldout"][::every]
    scores = scorer.score(policies()[policy], [text for text, _ in rows])
    truths = [violates for _, violates in rows]
    found = figures([score.p_violation for score in scores], truths, scorer.threshold(policies()[policy]))
    assert found.auc >= AUC_BAR, found
    assert found.accuracy >= ACCURACY_BAR, found
    assert min(score.p_answer for score in scores) > 0.9, "the answer is one of the two"


@pytest.mark.thorough
def test_no_text_it_is_measured_on_repeats_one_it_learnt_from():
    assert overlap.main() == 0


def test_the_adapter_is_small_enough_to_live_in_the_repository(models_root):
    adapter = resolve("demo", models_root).moderation.adapter
    assert adapter is not None
    assert sum(path.stat().st_size for path in adapter.iterdir()) <= ADAPTER_LIMIT


def test_auc_counts_pairs_in_the_right_order_and_ties_half():
    assert auc([0.9, 0.8, 0.1], [True, False, False]) == pytest.approx(1)
    assert auc([0.1, 0.8, 0.9], [True, False, False]) == pytest.approx(0)
    assert auc([0.5, 0.5], [True, False]) == pytest.approx(0.5)


def test_a_threshold_lies_between_the_classes():
    assert 0.1 < best_threshold([-3.0, -2.5, 2.0, 3.0], [False, False, True, True]) < 0.9


@pytest.mark.thorough
def test_bfloat16_gives_the_verdicts_of_float32(scorer, models_root):
    """Its probabilities differ by up to 0.06 (docs/decisions.md), so only thresholds nearby could tell."""
    from local.demo_classifier.training.evaluate import sets_of

    policy = policies()["hate-speech"]
    texts = [text for text, _ in sets_of(policy.id, ["tests"])["tests"]]
    files = resolve("demo", models_root).moderation
    halved = load_scorer(files, choose_device("cpu", "bfloat16")).score(policy, texts)
    exact = scorer.score(policy, texts)
    threshold = scorer.threshold(policy)
    assert [score.p_violation >= threshold for score in halved] == [score.p_violation >= threshold for score in exact]
    moved = max(abs(one.p_violation - other.p_violation) for one, other in zip(halved, exact, strict=True))
    assert 0 < moved < 0.1
