"""Figures of a binary classifier: AUC, accuracy, precision, recall, and a threshold that a small sample can carry."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """Quality on `n` texts; precision and recall are of the violating class, NaN where nothing was flagged or true."""

    n: int
    auc: float
    accuracy: float
    precision: float
    recall: float


def auc(scores: list[float], truths: list[bool]) -> float:
    """Probability that a violating text scores above a non-violating one; ties count half. NaN without both."""
    positives = [s for s, t in zip(scores, truths, strict=True) if t]
    negatives = [s for s, t in zip(scores, truths, strict=True) if not t]
    if not positives or not negatives:
        return math.nan
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def figures(p_violation: list[float], truths: list[bool], threshold: float) -> Figures:
    """Figures at `threshold`: a text is flagged if its p_violation is at least that."""
    flagged = [p >= threshold for p in p_violation]
    right = sum(f == t for f, t in zip(flagged, truths, strict=True))
    hits = sum(f and t for f, t in zip(flagged, truths, strict=True))
    return Figures(
        n=len(truths),
        auc=auc(p_violation, truths),
        accuracy=right / len(truths),
        precision=hits / sum(flagged) if any(flagged) else math.nan,
        recall=hits / sum(truths) if any(truths) else math.nan,
    )


def best_threshold(
    margins: list[float], truths: list[bool], sure: Sequence[tuple[float, bool]] = (), by: float = 0.5
) -> float:
    """Probability threshold for logit margins: both classes weigh the same, and the middle of the best range is taken.

    The errors are smoothed (a margin just beyond the threshold counts partly), so that the choice does not hang on
    one text of a small sample. Of the `sure` texts (margin, truth) as many as possible lie on their side of the
    threshold, `by` so much.
    """
    positives = [m for m, t in zip(margins, truths, strict=True) if t]
    negatives = [m for m, t in zip(margins, truths, strict=True) if not t]

    def cost(cut: float) -> float:
        missed = sum(1 / (1 + math.exp(m - cut)) for m in positives) / len(positives)
        false_alarms = sum(1 / (1 + math.exp(cut - m)) for m in negatives) / len(negatives)
        return missed + false_alarms

    def unsure(cut: float) -> int:
        return sum((m - cut if t else cut - m) < by for m, t in sure)

    cut = min((step / 20 for step in range(-100, 101)), key=lambda cut: (unsure(cut), cost(cut)))
    return 1 / (1 + math.exp(-cut))
