"""Opening, pausing and closing a study. Each is an act of a lead, or of a command on the server, and is recorded.

Open: clips are given out. Paused: nobody gets another clip, and what people hold they may finish and correct. Closed:
no label is taken any more; clips in hand are given back, and what was written on them stays as a draft. A closed study
can be opened again. Whoever asks for a state that the study has already changes nothing.
"""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from app import acts
from app.models import Study, User, db

State = Literal["open", "paused", "closed"]
_ACTS = {"open": "study-opened", "paused": "study-paused", "closed": "study-closed"}
_GIVE_BACK = sa.text("""
    UPDATE ra_assignments
    SET state = 'free', user_id = NULL, claimed_until = NULL, opened_at = NULL, active_ms = 0
    WHERE study_id = :study_id AND state = 'open'
""")


def set_state(study_id: int, state: State, by: User | None) -> int | None:
    """Change the state of a study, and return how many clips in hand were given back; None: nothing is changed.

    Does not commit.
    """
    study = db.session.scalars(
        sa.select(Study).where(Study.study_id == study_id).with_for_update().execution_options(populate_existing=True)
    ).one()
    if study.state == state:
        return None
    study.state = state
    study.closed_at = sa.func.now() if state == "closed" else None
    given_back = 0
    if state == "closed":
        db.session.flush()  # from now on no claim sees it open
        given_back = db.session.execute(_GIVE_BACK, {"study_id": study_id}).rowcount  # type: ignore[attr-defined]
    acts.note(by, _ACTS[state], study=study, given_back=given_back)
    return given_back
