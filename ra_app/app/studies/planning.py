"""How many clips to review: the planner's form, and what it knows of a study that has begun.

Before a study it plans from assumptions. During one it takes the strata that were drawn and what was found in them so
far. A clip counts as positive if a label of its first coder answers to one of the study's policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from app.codebooks.codebook import Codebook
from app.codebooks.published import codebook_of
from app.models import Study, db
from app.statistics.planning import Group, Plan, expected_groups, plan_precision, plan_recall
from app.studies.sampling import FLAGGED
from app.studies.settings_form import decimal, whole

MOST_CLIPS = 100_000_000
# The first person's newest label of each clip; in a study that reveals verdicts, the newest one before that.
_SO_FAR = sa.text("""
    WITH first AS (
        SELECT DISTINCT ON (a.item_id) i.stratum, l.labels
        FROM ra_items i JOIN ra_assignments a USING (item_id) JOIN ra_labels l USING (assignment_id)
        WHERE i.study_id = :study_id AND a.state = 'submitted' AND (:every OR l.blind)
        ORDER BY a.item_id, a.coder_number, l.label_id DESC
    )
    SELECT stratum, count(*) AS reviewed, count(*) FILTER (WHERE labels ?| CAST(:positive AS text[])) AS positive
    FROM first WHERE NOT labels ?| CAST(:undecided AS text[]) GROUP BY stratum
""")


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    half_width: float  # 0.05 for plus or minus five points
    clips: int
    flagged: int
    prevalence: float
    recall: float


@dataclass(frozen=True, kw_only=True)
class Line:
    name: str
    group: Group
    review: int  # for recall


@dataclass(frozen=True, kw_only=True)
class Answer:
    precision: Plan | None = None
    recall: Plan | None = None
    lines: list[Line] = field(default_factory=list)
    enough: bool = True  # the wished half-width can be reached

    @property
    def flagged(self) -> int:
        """How many flagged clips to review, for both."""
        recall = sum(line.review for line in self.lines if line.group.flagged)
        return max(recall, self.precision.review if self.precision else 0)

    @property
    def rest(self) -> list[int]:
        return [line.review for line in self.lines if not line.group.flagged]


def read(form: Mapping[str, str], problems: dict[str, str]) -> Assumptions | None:
    """Read and check the form; percent are percent."""
    half, prevalence = decimal(form.get("half_width"), 0.1, 49), decimal(form.get("prevalence"), 0, 100)
    recall = decimal(form.get("recall"), 0, 100)
    clips, flagged = whole(form.get("clips"), 2, MOST_CLIPS), whole(form.get("flagged"), 1, MOST_CLIPS)
    for name, value, allowed in (
        ("half_width", half, "a number of points from 0.1 to 49, for example 5"),
        ("prevalence", prevalence, "a number of percent from 0 to 100"),
        ("recall", recall, "a number of percent from 0 to 100"),
        ("clips", clips, "how many clips there are in all, a whole number"),
        ("flagged", flagged, "how many of them are flagged, a whole number"),
    ):
        if value is None:
            problems[name] = f"Write {allowed}."
    if half is None or prevalence is None or recall is None or clips is None or flagged is None:
        return None
    return Assumptions(
        half_width=half / 100, clips=clips, flagged=flagged, prevalence=prevalence / 100, recall=recall / 100
    )


def plan(assumed: Assumptions, study: Study | None, problems: dict[str, str]) -> Answer:
    """Return how many clips to review. What contradicts itself is said under "form"."""
    try:
        named = _named(assumed, study)
        groups = [group for _, group in named]
        flagged = [group for group in groups if group.flagged]
        share = _share(flagged)
        size, reviewed = sum(group.size for group in flagged), sum(group.reviewed for group in flagged)
        precision = plan_precision(assumed.half_width, share, size, reviewed=reviewed)
        recall = plan_recall(assumed.half_width, groups)
    except ValueError as error:
        problems["form"] = f"These numbers do not fit together: {error}."
        return Answer()
    lines = [Line(name=name, group=group, review=n) for (name, group), n in zip(named, recall.by_group, strict=True)]
    enough = recall.half_width <= assumed.half_width * 1.001
    return Answer(precision=precision, recall=recall, lines=lines, enough=enough)


def sizes(study: Study) -> tuple[int, int] | None:
    """Return the clips of a sample's frame, and how many are flagged; None: the study is no sample."""
    strata = study.design.get("strata") if isinstance(study.design, dict) else None
    if not strata:
        return None
    drawn = [each for each in strata if each["drawn"]]
    return sum(each["size"] for each in drawn), sum(each["size"] for each in drawn if each["name"] == FLAGGED)


def _named(assumed: Assumptions, study: Study | None) -> list[tuple[str, Group]]:
    """Return the groups with their names: two before a study, the strata of a sample during it."""
    flagged, rest = expected_groups(assumed.clips, assumed.flagged, assumed.prevalence, assumed.recall)
    if study is None or sizes(study) is None:
        return [("flagged", flagged), ("not flagged", rest)]
    found = _so_far(study, codebook_of(study))
    named = []
    for each in study.design["strata"]:
        if not each["drawn"]:
            continue
        group = flagged if each["name"] == FLAGGED else rest
        reviewed, positive = found.get(each["name"], (0, 0))
        named.append((each["name"], replace(group, size=each["size"], reviewed=reviewed, positive=positive)))
    return named


def _share(flagged: list[Group]) -> float:
    """Return the precision that is expected: the one found so far, once twenty clips have shown something of it."""
    reviewed, positive = sum(group.reviewed for group in flagged), sum(group.positive for group in flagged)
    if reviewed >= 20:
        return positive / reviewed
    size = sum(group.size for group in flagged)
    return sum(group.size * group.share for group in flagged) / size if size else 0.0


def _so_far(study: Study, codebook: Codebook) -> dict[str, tuple[int, int]]:
    policies = set(study.policies)
    positive = [
        label.code for label in codebook.labels if (policies & set(label.policies) if policies else label.policies)
    ]
    values = {
        "study_id": study.study_id,
        "positive": positive,
        "undecided": [label.code for label in codebook.labels if label.undecided],
        "every": study.mode != "reveal",
    }
    return {row.stratum: (row.reviewed, row.positive) for row in db.session.execute(_SO_FAR, values)}
