"""Check that no evaluation text repeats a training text: highest Jaccard similarity of their word 5-grams.

    python -m local.demo_classifier.training.overlap

Exits with status 1 above LIMIT.
"""

import re
import sys
from pathlib import Path

from local.demo_classifier.training.examples import DATA, POLICIES, POLICY_IDS, read_rows

LENGTH = 5  # words: shorter runs are ordinary English ("I'm going to be")
LIMIT = 0.05
WORD = re.compile(r"[a-z0-9']+")


def grams(text: str) -> frozenset[tuple[str, ...]]:
    """The text's runs of LENGTH words, lower case, without punctuation."""
    words = WORD.findall(text.lower())
    return frozenset(tuple(words[start : start + LENGTH]) for start in range(len(words) - LENGTH + 1))


def jaccard(left: frozenset[tuple[str, ...]], right: frozenset[tuple[str, ...]]) -> float:
    """Shared over all 5-grams, 0 to 1; 0 if both texts are too short to have any."""
    return len(left & right) / len(left | right) if left | right else 0.0


def closest(path: Path, train: list[tuple[str, frozenset[tuple[str, ...]]]]) -> tuple[float, str, str]:
    """The most similar pair of a text of `path` and a training text: (similarity, text, training text)."""
    best = (0.0, "", "")
    for row in read_rows(path):
        text = str(row["text"])
        mine = grams(text)
        for other, theirs in train:
            if mine & theirs:
                best = max(best, (jaccard(mine, theirs), text, other))
    return best


def main() -> int:
    train = [(str(row["text"]), grams(str(row["text"]))) for row in read_rows(DATA / "train.jsonl")]
    failed = False
    for path in (
        DATA / "heldout.jsonl",
        DATA / "development.jsonl",
        *(POLICIES / "tests" / f"{policy}.jsonl" for policy in POLICY_IDS),
    ):
        similarity, text, other = closest(path, train)
        print(f"{path.name}: highest 5-gram similarity with a training text {similarity:.3f}")
        if similarity > LIMIT:
            failed = True
            print(f"  {text}\n  {other}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
