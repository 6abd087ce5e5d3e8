"""The append-only record of what leads do: to studies, codebooks, decisions and exports. Nothing here commits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.models import Act, Study, User, db

SHOWN = 50
# What each act is called on pages. `{subject}` is what it was done to.
SENTENCES = {
    "study-made": "made the study",
    "study-opened": "opened the study",
    "study-paused": "paused the study",
    "study-extended": "extended the study: {subject}",
    "study-closed": "closed the study",
    "study-changed": "changed the study: {subject}",
    "codebook-drafted": "changed the draft of the codebook {subject}",
    "codebook-discarded": "threw the draft of the codebook {subject} away",
    "codebook-published": "published the codebook {subject}",
    "reference-set": "set the reference of clip {subject}",
    "reference-withdrawn": "took the reference of clip {subject} back",
    "decided": "decided on clip {subject}",
    "examples-fetched": "fetched the examples for the policy {subject}",
    "export-ordered": "ordered the export {subject}",
    "export-fetched": "fetched a file of the export {subject}",
    "export-removed": "removed the files of the export {subject}",
    "clip-opened": "opened the history of clip {subject}",
    "purged": "deleted labels: {subject}",
    "erased": "erased clip {subject}",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    at: datetime
    by: str | None  # None: a command on the server
    what: str


def note(by: User | None, act: str, *, study: Study | None = None, subject: str = "", **details: Any) -> None:
    """Add an entry. `act` is one of `SENTENCES`; `by` is None for a command on the server."""
    if act not in SENTENCES:
        raise ValueError(f"{act!r} is no act of app/acts.py")
    db.session.flush()  # a new study gets its number
    db.session.add(
        Act(
            user_id=by.user_id if by is not None else None,
            act=act,
            study_id=study.study_id if study is not None else None,
            subject=subject,
            details=details,
        )
    )


def newest(study_id: int | None = None) -> list[Line]:
    """Return the newest acts, of one study or of all, the newest first."""
    query = sa.select(Act, User.username).outerjoin(User, User.user_id == Act.user_id)
    if study_id is not None:
        query = query.where(Act.study_id == study_id)
    rows = db.session.execute(query.order_by(Act.act_id.desc()).limit(SHOWN))
    return [Line(at=act.at, by=name, what=SENTENCES[act.act].format(subject=act.subject)) for act, name in rows]
