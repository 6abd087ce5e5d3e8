"""Measure the demo classifier on texts it never saw, per policy, at the thresholds stored with the adapter.

    python -m local.demo_classifier.evaluate --base models/demo/smollm2-135m-instruct [--dtype bfloat16]

Sets: data/heldout.jsonl (the texts written for the policy; the other policies' texts are counted as false alarms
apart, since they are easy) and policies/tests. Exits with status 1 if a policy is below AUC_BAR or ACCURACY_BAR on
either.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from local.demo_classifier.examples import DATA, HERE, POLICY_IDS, overviews, policy_tests, read_rows
from local.demo_classifier.metrics import Figures, figures
from local.demo_classifier.scorer import Scorer, load

AUC_BAR = 0.90
ACCURACY_BAR = 0.85
BATCH = 16


@dataclass(frozen=True)
class Scored:
    """p_violation and p("0") + p("1") of each text, in order."""

    p_violation: list[float]
    mass: list[float]


def score(scorer: Scorer, policy_text: str, texts: list[str]) -> Scored:
    """Score the texts, batched by length; results in the order given."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    p_violation, mass = [math.nan] * len(texts), [math.nan] * len(texts)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            answer = scorer.score(policy_text, [texts[index] for index in chosen])
            for index, p, m in zip(chosen, answer.p_violation.tolist(), answer.log_mass.exp().tolist(), strict=True):
                p_violation[index], mass[index] = p, m
    return Scored(p_violation, mass)


def line(policy: str, name: str, found: Figures, mass: float) -> str:
    return (
        f"{policy:24} {name:10} {found.n:4d} {found.auc:6.3f} {found.accuracy:9.3f} {found.precision:10.3f} "
        f"{found.recall:7.3f} {mass:6.3f}"
    )


def show_wrong(texts: list[str], truths: list[bool], p_violation: list[float], threshold: float) -> None:
    for text, violates, p in zip(texts, truths, p_violation, strict=True):
        if (p >= threshold) != violates:
            print(f"    {'missed' if violates else 'false alarm'} {p:.2f}: {text}")


def evaluate(scorer: Scorer, thresholds: dict[str, float], *, wrong: bool) -> bool:
    """Print the table; whether every policy is above the bar on both sets."""
    heldout = read_rows(DATA / "heldout.jsonl")
    passed = True
    print(f"{'policy':24} {'set':10} {'n':>4} {'AUC':>6} {'accuracy':>9} {'precision':>10} {'recall':>7} {'mass':>6}")
    for policy, policy_text in overviews().items():
        own = [row for row in heldout if row["policy"] == policy]
        sets = {
            "heldout": [(str(row["text"]), bool(row["labels"][policy])) for row in own],  # type: ignore[index]
            "tests": [(example.text, example.violates) for example in policy_tests(policy)],
        }
        for name, rows in sets.items():
            texts, truths = [text for text, _ in rows], [violates for _, violates in rows]
            scored = score(scorer, policy_text, texts)
            found = figures(scored.p_violation, truths, thresholds[policy])
            print(line(policy, name, found, sum(scored.mass) / len(rows)))
            passed &= found.auc >= AUC_BAR and found.accuracy >= ACCURACY_BAR
            if wrong:
                show_wrong(texts, truths, scored.p_violation, thresholds[policy])
    return passed


def false_alarms_elsewhere(scorer: Scorer, thresholds: dict[str, float]) -> None:
    """Print how often texts written for one policy, and not violating another, are flagged under that other."""
    heldout = read_rows(DATA / "heldout.jsonl")
    for policy, policy_text in overviews().items():
        texts = [str(r["text"]) for r in heldout if r["policy"] != policy and not r["labels"][policy]]  # type: ignore[index]
        flagged = sum(p >= thresholds[policy] for p in score(scorer, policy_text, texts).p_violation)
        print(f"{policy:24} flags {flagged} of {len(texts)} held-out texts of other policies")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path("models/demo/smollm2-135m-instruct"))
    parser.add_argument("--adapter", type=Path, default=HERE / "adapter")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wrong", action="store_true", help="print the texts with a wrong verdict")
    parser.add_argument("--others", action="store_true", help="also count false alarms on other policies' texts")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    thresholds = json.loads((args.adapter / "thresholds.json").read_text())
    if set(thresholds) != set(POLICY_IDS):
        parser.error(f"{args.adapter / 'thresholds.json'} names other policies than {', '.join(POLICY_IDS)}")
    scorer = load(args.base, args.adapter, getattr(torch, args.dtype))
    started = time.monotonic()
    passed = evaluate(scorer, thresholds, wrong=args.wrong)
    if args.others:
        false_alarms_elsewhere(scorer, thresholds)
    print(f"{args.dtype}, {time.monotonic() - started:.0f} s: {'above' if passed else 'BELOW'} the bar of every policy")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
