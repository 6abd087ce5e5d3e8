"""The limit on failed log-ins, counted in Postgres so that all worker processes agree and a restart forgets nothing.

An attempt is written down *before* the password is looked at, and counts as failed until it proves right; looking and
writing happen under one lock, so of many attempts sent at the same moment no more than the limit get through. A refused
attempt writes nothing: it neither keeps the door shut nor fills the table.

Who has logged in before is not locked out by failures elsewhere. What applies, by where the attempt comes from:

| from                                            | this name from here | all names from here | this name, everyone |
|-------------------------------------------------|---------------------|---------------------|---------------------|
| a browser in which this user has logged in      | yes, of its own     | no                  | no                  |
| a network from which this user has logged in    | yes                 | yes                 | no                  |
| elsewhere                                       | yes                 | yes                 | yes                 |

For a user who has never logged in, `flask users unlock` opens the last column for some minutes.
"""

from __future__ import annotations

import math
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.sql.elements import ColumnElement

from app.models import KnownNetwork, LoginAttempt, User, db
from app.origins import Origin

WINDOW = timedelta(minutes=15)
KEEP = timedelta(days=1)
PAIR_LIMIT = 5  # failures of one name from one address
# A whole institute may share one address, and nobody may lock a colleague out from elsewhere with five tries.
ADDRESS_LIMIT = 50
USERNAME_LIMIT = 50
# Of everybody together, except where a user is known: bounds the table (96,000 rows a day) and the hashing.
TOTAL_LIMIT = 1000
NETWORKS_KEPT = 20  # of one user: the newest
NETWORK_LIFE = timedelta(days=180)  # since the last log-in from there
_LOCK = 0x7261_6C6F  # "ralo": one look at the counts at a time; password hashing is outside


class TooManyAttemptsError(Exception):
    """`elsewhere`: the failures are not this client's alone, so waiting may not help."""

    def __init__(self, retry_after_s: int, *, elsewhere: bool = False) -> None:
        super().__init__(f"too many failed log-ins; retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s
        self.elsewhere = elsewhere


def begin(username: str, origin: Origin) -> LoginAttempt:
    """Write an attempt down, or refuse it."""
    db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    try:
        _refuse_too_many(username, origin)
    except TooManyAttemptsError:
        db.session.rollback()
        raise
    db.session.execute(sa.delete(LoginAttempt).where(LoginAttempt.attempted_at < sa.func.now() - KEEP))
    attempt = LoginAttempt(username=username, address=origin.key)
    db.session.add(attempt)
    db.session.commit()
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


def remember_network(user: User, network: str) -> None:
    """From now on failures elsewhere do not lock this user out here."""
    seen = pg.insert(KnownNetwork).values(user_id=user.user_id, network=network)
    db.session.execute(
        seen.on_conflict_do_update(index_elements=["user_id", "network"], set_={"seen_at": sa.func.now()})
    )
    newest = (
        sa.select(KnownNetwork.network)
        .where(KnownNetwork.user_id == user.user_id)
        .order_by(KnownNetwork.seen_at.desc())
        .limit(NETWORKS_KEPT)
    )
    db.session.execute(
        sa.delete(KnownNetwork).where(
            KnownNetwork.user_id == user.user_id,
            KnownNetwork.network.not_in(newest) | (KnownNetwork.seen_at < sa.func.now() - NETWORK_LIFE),
        )
    )
    db.session.commit()


def unlock(user: User, minutes: int) -> None:
    """Forget the failures of this name, and let no failures elsewhere count against it for some minutes."""
    db.session.execute(
        sa.delete(LoginAttempt).where(LoginAttempt.username == user.username, LoginAttempt.outcome != "succeeded")
    )
    user.unlocked_until = sa.func.now() + timedelta(minutes=minutes)
    db.session.commit()


def _refuse_too_many(username: str, origin: Origin) -> None:
    same_name, same_address = LoginAttempt.username == username, LoginAttempt.address == origin.key
    here = _wait_s(PAIR_LIMIT, same_name, same_address)
    elsewhere = 0
    if origin.device is None:
        here = max(here, _wait_s(ADDRESS_LIMIT, same_address))
        if not _is_let_in(username, origin.network):
            elsewhere = max(_wait_s(USERNAME_LIMIT, same_name), _wait_s(TOTAL_LIMIT))
    if here or elsewhere:
        raise TooManyAttemptsError(max(here, elsewhere), elsewhere=elsewhere > 0)


def _is_let_in(username: str, network: str) -> bool:
    """Whether this user has logged in from this network before, or an operator has unlocked the account."""
    known = (
        sa.select(KnownNetwork.network)
        .where(
            KnownNetwork.user_id == User.user_id,
            KnownNetwork.network == network,
            KnownNetwork.seen_at > sa.func.now() - NETWORK_LIFE,
        )
        .exists()
    )
    query = sa.select(User.user_id).where(
        User.username == username, known | sa.func.coalesce(User.unlocked_until > sa.func.now(), sa.false())
    )
    return db.session.scalar(query) is not None


def _wait_s(limit: int, *scope: ColumnElement[bool]) -> int:
    """Seconds until fewer than `limit` failures lie in the window; 0 when that is so now."""
    oldest_counted = db.session.scalar(
        sa.select(sa.func.extract("epoch", LoginAttempt.attempted_at + WINDOW - sa.func.clock_timestamp()))
        .where(
            *scope,
            LoginAttempt.outcome.in_(["pending", "failed"]),
            LoginAttempt.attempted_at > sa.func.clock_timestamp() - WINDOW,
        )
        .order_by(LoginAttempt.attempted_at.desc())
        .offset(limit - 1)
        .limit(1)
    )
    return 0 if oldest_counted is None else max(1, math.ceil(oldest_counted))
