"""What can be said of policy files without scoring a text: their shape and length, and whether two are nearly equal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from moderation.policies import Policy, check_policy
from policy_lab.model import Reading

SHINGLE_WORDS = 5  # runs of so many words are compared: chance rarely makes two policies share one
NEAR_DUPLICATE = 0.5  # share of common runs from which two policies count as nearly equal
ROOM_TOKENS = 2000  # about ten minutes of speech; a policy that leaves less is warned of


@dataclass(frozen=True)
class Finding:
    """One thing that lint says of a file."""

    path: Path
    line: int
    text: str
    wrong: bool = True  # False: a remark


@dataclass(frozen=True)
class Linted:
    """The result for all files together."""

    findings: Sequence[Finding]
    tokens: dict[Path, int]  # of the prompt without the text, for files that could be read
    files: Sequence[Path]

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.wrong]


def lint(files: Sequence[Path], reading: Reading, others: Iterable[Policy] = ()) -> Linted:
    """Check files; `others` are policies that these are only compared with."""
    findings: list[Finding] = []
    policies: dict[Path, Policy] = {}
    tokens: dict[Path, int] = {}
    for path in files:
        policy, problems = check_policy(path)
        findings += [Finding(path, problem.line, problem.reason) for problem in problems]
        if policy is not None:
            policies[path] = policy
            tokens[path] = reading.tokens(policy)
            findings += _length(path, tokens[path], reading)
    findings += _near_duplicates(policies, others)
    return Linted(sorted(findings, key=lambda item: (files.index(item.path), item.line)), tokens, files)


def similarity(one: str, other: str) -> float:
    """The share of runs of `SHINGLE_WORDS` words that two texts have in common, 0..1 (Jaccard)."""
    a, b = _shingles(one), _shingles(other)
    return len(a & b) / len(a | b) if a | b else 0.0


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + SHINGLE_WORDS]) for start in range(len(words) - SHINGLE_WORDS + 1)}


def _length(path: Path, tokens: int, reading: Reading) -> list[Finding]:
    room = reading.max_tokens - tokens
    said = f"{tokens:,} of the {reading.max_tokens:,} tokens that {reading.model} reads at once"
    said += "" if reading.exact else " (an estimate)"
    if room <= 0:
        return [Finding(path, 1, f"the policy needs {said}, so there is no room for a transcript; shorten it")]
    if room < ROOM_TOKENS:
        return [Finding(path, 1, f"the policy needs {said}; the middle of long transcripts is left out", wrong=False)]
    return []


def _near_duplicates(policies: dict[Path, Policy], others: Iterable[Policy]) -> list[Finding]:
    found = []
    for (path, one), (_, two) in combinations(policies.items(), 2):
        found += _compared(path, one, two)
    ids = {policy.id for policy in policies.values()}
    for other in others:
        if other.id not in ids:  # an installed version of a file that is being edited is meant to be alike
            for path, one in policies.items():
                found += _compared(path, one, other)
    return found


def _compared(path: Path, one: Policy, other: Policy) -> list[Finding]:
    share = similarity(one.body, other.body)
    if share < NEAR_DUPLICATE or one.id == other.id:
        return []
    said = f"{100 * share:.0f} % of its runs of {SHINGLE_WORDS} words are those of {other.id}"
    return [Finding(path, 1, f"{said}; the two policies flag the same clips, so make one of them, or tell them apart")]
