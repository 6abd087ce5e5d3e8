"""What a coder sees of a training study: the own labels beside the references, once the own label is stored.

Only here does a reference reach somebody who labels, and only for a slot that this person has submitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from app.models import Study, db

PAGE_SIZE = 50

_LABELLED = sa.text("""
    EXISTS (SELECT FROM ra_assignments a
            WHERE a.study_id = ra_studies.study_id AND a.user_id = :user_id AND a.state = 'submitted')
""")
# The first label counts: it was given before the reference was seen. The reference is that of the label's codebook.
_CLIPS = sa.text("""
    SELECT a.audio_id, a.submitted_at, l.labels, l.codebook_id, l.codebook_version, r.labels AS wanted, r.reason
    FROM ra_assignments a
    CROSS JOIN LATERAL (
        SELECT * FROM ra_labels n WHERE n.assignment_id = a.assignment_id ORDER BY n.label_id LIMIT 1
    ) l
    LEFT JOIN LATERAL (
        SELECT * FROM ra_references n WHERE n.audio_id = a.audio_id AND n.codebook_id = l.codebook_id
          AND n.codebook_version = l.codebook_version ORDER BY n.reference_id DESC LIMIT 1
    ) r ON true
    WHERE a.user_id = :user_id AND a.study_id = :study_id AND a.state = 'submitted'
    ORDER BY a.submitted_at DESC NULLS LAST, a.assignment_id DESC LIMIT :limit OFFSET :offset
""")


@dataclass(frozen=True, kw_only=True)
class Trained:
    audio_id: int
    submitted_at: datetime | None
    labels: list[str]
    wanted: list[str] | None  # None: the clip has no reference
    reason: str
    codebook: tuple[str, str]  # id and version of the label's

    @property
    def equal(self) -> bool:
        return self.wanted is not None and set(self.labels) == set(self.wanted)


def studies(user_id: int) -> list[Study]:
    """Return the training studies in which this person has labelled a clip."""
    query = sa.select(Study).where(Study.kind == "training", _LABELLED).order_by(Study.study_id)
    return list(db.session.scalars(query, {"user_id": user_id}))


def clips(user_id: int, study_id: int, page: int) -> tuple[list[Trained], bool]:
    """Return one page of the clips that this person has labelled, the newest first, and whether there are more."""
    values = {"user_id": user_id, "study_id": study_id, "limit": PAGE_SIZE + 1, "offset": (page - 1) * PAGE_SIZE}
    made = [
        Trained(
            audio_id=row.audio_id,
            submitted_at=row.submitted_at,
            labels=row.labels,
            wanted=row.wanted,
            reason=row.reason or "",
            codebook=(row.codebook_id, row.codebook_version),
        )
        for row in db.session.execute(_CLIPS, values)
    ]
    return made[:PAGE_SIZE], len(made) > PAGE_SIZE
