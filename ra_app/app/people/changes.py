"""The append-only record of changes of accounts: who did what to whom, and when. Nothing here commits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from app.models import AccountChange, User, db

SHOWN = 50
_SENTENCES = {
    "created": "account made",
    "invited": "invitation made",
    "joined": "account made by an invitation",
    "reset-link": "link for a new password made",
    "link-revoked": "link taken back",
    "password": "password changed",
    "closed": "account closed",
    "opened": "account opened again",
    "role": "role changed",
    "sessions-ended": "all sessions ended",
    "unlocked": "let in after failed log-ins",
}
_CONNECTED = "single sign-on connected by a link; the password works no more"


@dataclass(frozen=True, kw_only=True)
class Line:
    at: datetime
    by: str | None  # None: a command on the server
    what: str


def note(by: User | None, event: str, user: User | None, **details: Any) -> None:
    """Add an entry: one of `CHANGES` of app/models/access.py."""
    db.session.flush()  # a new account gets its number
    db.session.add(
        AccountChange(
            by_user_id=by.user_id if by is not None else None,
            event=event,
            user_id=user.user_id if user is not None else None,
            details=details,
        )
    )


def newest(user_id: int) -> list[Line]:
    """Return the newest entries on this account, the newest first."""
    actor = aliased(User)
    rows = db.session.execute(
        sa.select(AccountChange, actor.username)
        .outerjoin(actor, actor.user_id == AccountChange.by_user_id)
        .where(AccountChange.user_id == user_id)
        .order_by(AccountChange.change_id.desc())
        .limit(SHOWN)
    )
    return [Line(at=entry.at, by=name, what=_sentence(entry)) for entry, name in rows]


def _sentence(entry: AccountChange) -> str:
    sentence = _SENTENCES[entry.event]
    if "sign_on" in entry.details:  # not events of their own: the release before does not know them
        sentence = "account made, with single sign-on" if entry.event == "joined" else _CONNECTED
    if entry.event == "role":
        sentence += f" from {entry.details['before']} to {entry.details['after']}"
    return sentence
