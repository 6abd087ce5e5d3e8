"""Measure the demo classifier on texts it never saw, per policy, as the GPU worker runs it.

    PYTHONPATH=src python -m local.demo_classifier.training.evaluate --base models/demo/BASE [--wrong] [--others]

Sets: data/heldout.jsonl (written apart, by somebody who had read the policies only; README.md says when it was looked
at), data/development.jsonl (looked at while data and recipe were chosen) and policies/tests. Exits with status 1 if a
policy is below AUC_BAR or ACCURACY_BAR on the held-out set.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from local.demo_classifier.training.examples import (
    ADAPTER,
    DATA,
    policies,
    policy_tests,
    read_rows,
    written_for,
)
from local.demo_classifier.training.metrics import Figures, figures
from models.sets import ModerationModel
from moderation.loading import load_scorer
from moderation.policies import Policy
from moderation.policy_scorer import PolicyScorer
from moderation.thresholds import threshold_key
from system.device import choose_device

AUC_BAR = 0.90
ACCURACY_BAR = 0.85
SETS = ("heldout", "development", "tests")


def line(policy: str, name: str, found: Figures, mass: float) -> str:
    return (
        f"{policy:24} {name:10} {found.n:4d} {found.auc:6.3f} {found.accuracy:9.3f} {found.precision:10.3f} "
        f"{found.recall:7.3f} {mass:6.3f}"
    )


def show_wrong(texts: list[str], truths: list[bool], p_violation: list[float], threshold: float) -> None:
    for text, violates, p in zip(texts, truths, p_violation, strict=True):
        if (p >= threshold) != violates:
            print(f"    {'missed' if violates else 'false alarm'} {p:.2f}: {text}")


def sets_of(policy: str, names: Sequence[str]) -> dict[str, list[tuple[str, bool]]]:
    """(text, violates) of each set."""
    examples = {name: policy_tests(policy) if name == "tests" else written_for(policy, name) for name in names}
    return {name: [(example.text, example.violates) for example in found] for name, found in examples.items()}


def evaluate(scorer: PolicyScorer, names: Sequence[str], *, wrong: bool) -> bool:
    """Print the table; whether every policy is above the bar on the held-out set."""
    passed = True
    print(f"{'policy':24} {'set':10} {'n':>4} {'AUC':>6} {'accuracy':>9} {'precision':>10} {'recall':>7} {'mass':>6}")
    for policy in policies().values():
        for name, rows in sets_of(policy.id, names).items():
            texts, truths = [text for text, _ in rows], [violates for _, violates in rows]
            scores = scorer.score(policy, texts)
            p_violation = [score.p_violation for score in scores]
            found = figures(p_violation, truths, scorer.threshold(policy))
            print(line(policy.id, name, found, sum(score.p_answer for score in scores) / len(rows)))
            if name == "heldout":
                passed &= found.auc >= AUC_BAR and found.accuracy >= ACCURACY_BAR
            if wrong:
                show_wrong(texts, truths, p_violation, scorer.threshold(policy))
    return passed


def false_alarms_elsewhere(scorer: PolicyScorer, policy: Policy) -> None:
    """Print how often texts written for other policies, and not violating this one, are flagged under it."""
    rows = read_rows(DATA / "heldout.jsonl")
    texts = [str(row["text"]) for row in rows if row["policy"] != policy.id and not row["labels"][policy.id]]  # type: ignore[index]
    flagged = sum(score.p_violation >= scorer.threshold(policy) for score in scorer.score(policy, texts))
    print(f"{policy.id:24} flags {flagged} of {len(texts)} held-out texts of other policies")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--adapter", type=Path, default=ADAPTER)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--set", choices=SETS, action="append", help="only these; leave heldout alone while something is chosen"
    )
    parser.add_argument("--wrong", action="store_true", help="print the texts with a wrong verdict")
    parser.add_argument("--others", action="store_true", help="also count false alarms on other policies' texts")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    thresholds = json.loads((arguments.adapter / "thresholds.json").read_text())
    wanted = {threshold_key(policy) for policy in policies().values()}
    if set(thresholds) != wanted:
        parser.error(
            f"{arguments.adapter / 'thresholds.json'} has other thresholds than for {', '.join(sorted(wanted))}"
        )
    files = ModerationModel(
        "demo", arguments.base, arguments.adapter, "cope-a", "overview", 8192, thresholds, min_p_answer=0.0
    )
    scorer = load_scorer(files, replace(choose_device("cpu"), dtype=arguments.dtype))
    started = time.monotonic()
    passed = evaluate(scorer, arguments.set or SETS, wrong=arguments.wrong)
    if arguments.others:
        for policy in policies().values():
            false_alarms_elsewhere(scorer, policy)
    bar = "above" if passed else "NOT above"
    print(f"{arguments.dtype}, {math.ceil(time.monotonic() - started)} s: {bar} the bar of every policy")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
