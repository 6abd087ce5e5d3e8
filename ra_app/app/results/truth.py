"""What people say of a clip, as one answer per policy: the only place that decides it. Rules in docs/statistics.md.

A label answers to the policies that the codebook names for it. A judgement says yes to a policy if one of its labels
answers to it, and no otherwise; one that says “could not decide” is no judgement. The rule makes one answer of all
judgements of a clip. Where it cannot, the clip is left out of the numbers, and the page says how many were.
"""

from __future__ import annotations

from typing import Literal

from app.codebooks.codebook import Codebook, Label
from app.results import judgements
from app.results.judgements import Which

Rule = Literal["majority", "any", "all"]
RULES: dict[Rule, str] = {
    "majority": "The decision if there is one, else what most coders said",
    "any": "Yes if any coder said so",
    "all": "Yes if all coders said so",
}
Undecided = Literal["tie", "undecided"]  # as many yes as no; nobody could decide
# For each clip with a judgement of the version: how many coders could decide, how many of them said yes to the policy,
# and the newest decision by this version: null, whether it says yes, and whether it says “could not decide”.
_ANSWERS = """
    SELECT j.item_id, j.judged, j.yes, d.labels IS NOT NULL AS decided,
           coalesce(jsonb_exists_any(d.labels, CAST(:codes AS text[])), false) AS decided_yes,
           coalesce(jsonb_exists_any(d.labels, CAST(:undecided AS text[])), false) AS decided_neither
    FROM (
        SELECT item_id, count(*) FILTER (WHERE could) AS judged, count(*) FILTER (WHERE could AND says_yes) AS yes
        FROM (
            SELECT item_id, NOT jsonb_exists_any(labels, CAST(:undecided AS text[])) AS could,
                   jsonb_exists_any(labels, CAST(:codes AS text[])) AS says_yes
            FROM ({counted}) c
            WHERE c.codebook_id = :codebook_id AND c.codebook_version = :codebook_version
        ) said GROUP BY item_id
    ) j
    LEFT JOIN (
        SELECT DISTINCT ON (n.item_id) n.item_id, n.labels
        FROM ra_decisions n JOIN ra_items m ON m.item_id = n.item_id AND m.study_id = :study_id
        WHERE n.codebook_id = :codebook_id AND n.codebook_version = :codebook_version
        ORDER BY n.item_id, n.decision_id DESC
    ) d ON d.item_id = j.item_id
"""


def labels_of(codebook: Codebook, policy: str) -> list[Label]:
    """Return the labels that answer to this policy."""
    return [label for label in codebook.labels if policy in label.policies]


def policies(codebook: Codebook) -> list[str]:
    """Return the policies that a label answers to, in the order of the codebook."""
    return list(dict.fromkeys(policy for label in codebook.labels for policy in label.policies))


def answers(which: Which) -> str:
    """Return the query of the people's answers; it needs `:codes` besides `Version.binds` and `:study_id`."""
    return _ANSWERS.format(counted=judgements.counted(which))


def truth(
    rule: Rule, *, judged: int, yes: int, decided: bool, decided_yes: bool, decided_neither: bool
) -> bool | Undecided:
    """Return the people's answer for one clip, or why there is none."""
    if rule == "majority" and decided:
        return "undecided" if decided_neither else decided_yes
    if not judged:
        return "undecided"
    if rule == "any":
        return yes > 0
    if rule == "all":
        return yes == judged
    return "tie" if 2 * yes == judged else 2 * yes > judged
