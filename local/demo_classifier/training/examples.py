"""Policies and labelled texts, as the demo classifier reads them."""

import json
import random
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from local.samples.archive import load_manifest
from moderation.policies import Policy, load_policies

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
POLICIES = HERE.parents[2] / "policies"
ADAPTER = HERE.parent / "adapter"
POLICY_IDS = ("violent-threats", "hate-speech", "scams-and-fraud", "medical-misinformation")

VALIDATION_SHARE = 0.2  # of the scenarios: enough to choose thresholds, and still most of the data to learn from
FILLERS = ("um", "uh", "like", "you know", "I mean", "so", "okay", "right")
PUNCTUATION = re.compile(r"[.,!?;:\"]")


@dataclass(frozen=True)
class Example:
    """A text, one policy, and whether the text violates it; `scenario` groups texts made from one template."""

    text: str
    policy: str
    violates: bool
    scenario: str


def policies() -> dict[str, Policy]:
    """The four policies by id."""
    found = {policy.id: policy for policy in load_policies(POLICIES)}
    return {policy: found[policy] for policy in POLICY_IDS}


def read_rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def labelled(path: Path) -> list[Example]:
    """Every text of a file with a `labels` object, once for each policy."""
    return [
        Example(str(row["text"]), policy, bool(row["labels"][policy]), str(row.get("scenario", row["text"])))  # type: ignore[index]
        for row in read_rows(path)
        for policy in POLICY_IDS
    ]


def written_for(policy: str, name: str) -> list[Example]:
    """The texts of a set (heldout, development) that were written for a policy."""
    return [
        Example(str(row["text"]), policy, bool(row["labels"][policy]), f"{name}/{number}")  # type: ignore[index]
        for number, row in enumerate(read_rows(DATA / f"{name}.jsonl"), start=1)
        if row["policy"] == policy
    ]


def policy_tests(policy: str) -> list[Example]:
    """The test sentences that stand beside a policy: {"text", "violates", "why"} a line."""
    return [
        Example(str(row["text"]), policy, bool(row["violates"]), f"tests/{policy}/{number}")
        for number, row in enumerate(read_rows(POLICIES / "tests" / f"{policy}.jsonl"), start=1)
    ]


def sample_texts() -> list[Example]:
    """The sample clips as the demo's speech model hears them, once for each policy: lost commas can move a score."""
    flagged = {clip.file: clip.flagged for clip in load_manifest()}
    return [
        Example(str(row["text"]), policy, policy in flagged.get(str(row["file"]), ()), str(row["file"]))
        for row in read_rows(DATA / "heard.jsonl")
        for policy in POLICY_IDS
    ]


def is_validation(scenario: str) -> bool:
    """Whether a scenario is held back from training. By hash, so that adding scenarios moves none of the others."""
    return zlib.crc32(scenario.encode()) % 1000 < VALIDATION_SHARE * 1000


def like_a_transcript(text: str, rng: random.Random) -> str:
    """The text as speech recognition might have written it: no case, lost punctuation, fillers, lost words."""
    if rng.random() < 0.5:
        text = PUNCTUATION.sub("", text)
    if rng.random() < 0.5:
        text = text.lower()
    if rng.random() < 0.2:
        text = text.replace("'", "")
    words = text.split()
    if rng.random() < 0.5:
        for _ in range(rng.randint(1, 3)):
            words.insert(rng.randrange(len(words) + 1), rng.choice(FILLERS))
    if rng.random() < 0.3:
        words = [word for word in words if rng.random() > 0.04] or words
    return " ".join(words)
