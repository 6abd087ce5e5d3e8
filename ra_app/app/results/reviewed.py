"""The clips of a study that people judged, with the people's answer and the classifier's verdict in force.

The clips are streamed. Each has a weight: how many clips it stands for. That is one over the probability with which it
was drawn, times the clips of its stratum for each one that people have given an answer to so far. So a study that is
half done does not count the stratum in which it has got further for more than it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from app.models import Study, db
from app.results import truth
from app.results.judgements import Version, Which
from app.results.truth import Rule, Undecided

FLAGGED = "flagged"  # the stratum of clips that are in a study because some policy flagged them
_BATCH = 5000

# One look into the view per clip; the LIMIT keeps Postgres from reading the verdicts of all clips (see take_up.py).
_CLIPS = """
    SELECT i.audio_id, i.stratum, i.inclusion_probability AS probability, p.judged, p.yes, p.decided, p.decided_yes,
           p.decided_neither, v.policy_version, v.violates, v.score, v.threshold, v.created_at AS judged_at,
           coalesce(t.finding = 'doubtful', false) AS doubtful, o.not_judged,
           date_trunc('week', f.processed_at AT TIME ZONE 'UTC')::date AS week {text}
    FROM ({answers}) p
    JOIN ra_items i ON i.item_id = p.item_id
    LEFT JOIN LATERAL (
        SELECT * FROM verdicts_in_force n WHERE n.audio_id = i.audio_id AND n.policy = :policy LIMIT 1
    ) v ON true
    LEFT JOIN transcripts t ON t.transcript_id = v.transcript_id
    LEFT JOIN LATERAL (
        SELECT n.not_judged FROM transcripts n WHERE n.audio_id = i.audio_id
        ORDER BY n.created_at DESC, n.transcript_id DESC LIMIT 1
    ) o ON v.audio_id IS NULL
    LEFT JOIN audio_files f ON f.audio_id = i.audio_id
    ORDER BY i.audio_id
"""
# What the classifier read: the transcript, or its translation.
_TEXT = ", CASE WHEN v.judged = 'translation' THEN coalesce(t.translation, t.text) ELSE t.text END AS text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    version: str
    violates: bool
    score: float
    threshold: float
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    audio_id: int
    stratum: str
    probability: float
    answer: bool | Undecided  # of the people
    verdict: Verdict | None  # None: the classifier has not judged it
    doubtful: bool  # of the transcript that was judged
    not_judged: str | None  # why there is no verdict, if the pipeline says so
    week: date | None  # the Monday of the week (UTC) in which the clip was processed
    text: str = ""  # that the classifier read; only if it is asked for


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked: of which study, by which version of the codebook, for which policy, by which rule."""

    study: Study
    which: Which
    version: Version
    policy: str
    rule: Rule

    def clips(self, *, texts: bool = False) -> Iterator[Clip]:
        """Return the clips that people judged, by their number."""
        query = _CLIPS.format(answers=truth.answers(self.which), text=_TEXT if texts else "")
        codes = [label.code for label in truth.labels_of(self.version.codebook, self.policy)]
        values = {"study_id": self.study.study_id, "codes": codes, "policy": self.policy, **self.version.binds()}
        for row in db.session.execute(sa.text(query), values, execution_options={"yield_per": _BATCH}):
            yield _clip(row, self.rule, texts=texts)


def sizes(study: Study) -> Counter[tuple[str, float]]:
    """Return how many clips the study has of each stratum and probability."""
    rows = db.session.execute(
        sa.text("SELECT stratum, inclusion_probability, count(*) FROM ra_items WHERE study_id = :id GROUP BY 1, 2"),
        {"id": study.study_id},
    )
    return Counter({(row[0], row[1]): row[2] for row in rows})


def _clip(row: Any, rule: Rule, *, texts: bool) -> Clip:
    verdict = None
    if row.score is not None:
        verdict = Verdict(
            version=row.policy_version,
            violates=row.violates,
            score=row.score,
            threshold=row.threshold,
            at=row.judged_at,
        )
    return Clip(
        audio_id=row.audio_id,
        stratum=row.stratum,
        probability=row.probability,
        answer=truth.truth(
            rule,
            judged=row.judged,
            yes=row.yes,
            decided=row.decided,
            decided_yes=row.decided_yes,
            decided_neither=row.decided_neither,
        ),
        verdict=verdict,
        doubtful=row.doubtful,
        not_judged=row.not_judged,
        week=row.week,
        text=(row.text or "") if texts else "",
    )
