"""The limit on failed log-ins, counted in Postgres so that all worker processes agree and a restart forgets nothing.

An attempt is written down *before* the password is looked at, and counts as failed until it proves right: of many
attempts sent at the same moment no more than the limit get through. A refused attempt does not count, so that a
colleague who keeps trying is not locked out for ever.
"""

from __future__ import annotations

import math
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.sql.elements import ColumnElement

from app.models import LoginAttempt, db

WINDOW = timedelta(minutes=15)
KEEP = timedelta(days=1)
PAIR_LIMIT = 5  # failures of one name from one address
# A whole institute may share one address, and nobody may lock a colleague out from elsewhere with five tries.
ADDRESS_LIMIT = 50
USERNAME_LIMIT = 50


class TooManyAttemptsError(Exception):
    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many failed log-ins; retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


def begin(username: str, address: str) -> LoginAttempt:
    """Write an attempt down, or refuse it."""
    db.session.execute(sa.delete(LoginAttempt).where(LoginAttempt.attempted_at < sa.func.now() - KEEP))
    attempt = LoginAttempt(username=username, address=address)
    db.session.add(attempt)
    db.session.commit()
    same_name, same_address = LoginAttempt.username == username, LoginAttempt.address == address
    wait = max(
        _wait_s(attempt, PAIR_LIMIT, same_name, same_address),
        _wait_s(attempt, ADDRESS_LIMIT, same_address),
        _wait_s(attempt, USERNAME_LIMIT, same_name),
    )
    if wait > 0:
        finish(attempt, "refused")
        raise TooManyAttemptsError(wait)
    return attempt


def finish(attempt: LoginAttempt, outcome: str) -> None:
    attempt.outcome = outcome
    if outcome == "succeeded":  # whoever knows the password has no failures to answer for
        db.session.execute(
            sa.delete(LoginAttempt).where(
                LoginAttempt.username == attempt.username,
                LoginAttempt.address == attempt.address,
                LoginAttempt.outcome == "failed",
            )
        )
    db.session.commit()


def _wait_s(attempt: LoginAttempt, limit: int, *scope: ColumnElement[bool]) -> int:
    """Seconds until fewer than `limit` other failures lie in the window; 0 when that is so now."""
    oldest_counted = db.session.scalar(
        sa.select(sa.func.extract("epoch", LoginAttempt.attempted_at + WINDOW - sa.func.clock_timestamp()))
        .where(
            *scope,
            LoginAttempt.outcome.in_(["pending", "failed"]),
            LoginAttempt.attempted_at > sa.func.clock_timestamp() - WINDOW,
            LoginAttempt.attempt_id != attempt.attempt_id,
        )
        .order_by(LoginAttempt.attempted_at.desc())
        .offset(limit - 1)
        .limit(1)
    )
    return 0 if oldest_counted is None else max(1, math.ceil(oldest_counted))
