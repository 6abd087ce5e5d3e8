"""The limit on failed log-ins. Postgres holds the counts, so all worker processes share them and a restart keeps them.

An attempt is stored *before* the password is checked, and it counts as failed until the password proves right. The
check of the limit and the insert happen under one lock, so of many attempts at the same moment no more than the limit
get through. A refused attempt is not stored: it does not make the wait longer and does not fill the table.

Failed log-ins from other places do not lock out a user who has logged in before. The limits that apply depend on the
origin of the attempt:

| origin                                       | this name here | all names here | this name everywhere |
|----------------------------------------------|----------------|----------------|----------------------|
| a browser in which this user has logged in   | yes, own count | no             | no                   |
| a network from which this user has logged in | yes            | yes            | no                   |
| any other                                    | yes            | yes            | yes                  |

"Here" means from the same origin. `flask users unlock` suspends the limit of the last column for some minutes, for
a user who has never logged in. A link that makes an account or sets a password is counted like a name, and so is each
log-in by single sign-on that reaches the provider: of these, only the limit of the network counts.
"""

from __future__ import annotations

import math
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.sql.elements import ColumnElement

from app.models import KnownNetwork, LoginAttempt, User, db
from app.people.origins import Origin

WINDOW = timedelta(minutes=15)
KEEP = timedelta(days=1)
PAIR_LIMIT = 5  # failures of one name from one address
# Higher than PAIR_LIMIT: a whole institute may share one address, and five failed log-ins from somewhere else must not
# lock a user out.
ADDRESS_LIMIT = 50
USERNAME_LIMIT = 50
# All failed log-ins together, known browsers and networks excepted. It bounds the table (96,000 rows a day) and the
# time spent on hashing.
TOTAL_LIMIT = 1000
NETWORKS_KEPT = 20  # per user; the newest stay
NETWORK_LIFE = timedelta(days=180)  # since the last log-in from there
_LOCK = 0x7261_6C6F  # "ralo": one process at a time checks the counts; the slow password hashing is not under this lock


class TooManyAttemptsError(Exception):
    """The attempt is refused. `elsewhere`: failures from other origins count too, so waiting may not help."""

    def __init__(self, retry_after_s: int, *, elsewhere: bool = False) -> None:
        super().__init__(f"too many failed log-ins; retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s
        self.elsewhere = elsewhere


def begin(username: str, origin: Origin, *, invited: bool = False) -> LoginAttempt:
    """Store a new attempt, or raise `TooManyAttemptsError`. `invited`: with a link that works, so that the failures of
    all other names do not count: whoever comes for the first time has no known network.
    """
    db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    try:
        _refuse_too_many(username, origin, invited)
    except TooManyAttemptsError:
        db.session.rollback()
        raise
    db.session.execute(sa.delete(LoginAttempt).where(LoginAttempt.attempted_at < sa.func.now() - KEEP))
    attempt = LoginAttempt(username=username, address=origin.key)
    db.session.add(attempt)
    db.session.commit()
    return attempt


def is_familiar(network: str) -> bool:
    """Whether anybody has logged in from this network before."""
    query = sa.select(KnownNetwork.user_id).where(
        KnownNetwork.network == network, KnownNetwork.seen_at > sa.func.now() - NETWORK_LIFE
    )
    return db.session.scalar(query.limit(1)) is not None


def finish(attempt: LoginAttempt, outcome: str) -> None:
    attempt.outcome = outcome
    if outcome == "succeeded":  # the right password clears the earlier failures of this name from this origin
        db.session.execute(
            sa.delete(LoginAttempt).where(
                LoginAttempt.username == attempt.username,
                LoginAttempt.address == attempt.address,
                LoginAttempt.outcome == "failed",
            )
        )
    db.session.commit()


def remember_network(user: User, network: str) -> None:
    """Store that this user has logged in from this network. Failures from other places then do not count here."""
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
    """Delete the failed log-ins of this name, and ignore failures from other places for some minutes."""
    db.session.execute(
        sa.delete(LoginAttempt).where(LoginAttempt.username == user.username, LoginAttempt.outcome != "succeeded")
    )
    user.unlocked_until = sa.func.now() + timedelta(minutes=minutes)
    db.session.commit()


def _refuse_too_many(username: str, origin: Origin, invited: bool) -> None:
    same_name, same_address = LoginAttempt.username == username, LoginAttempt.address == origin.key
    here = _wait_s(PAIR_LIMIT, same_name, same_address)
    elsewhere = 0
    if origin.device is None:
        here = max(here, _wait_s(ADDRESS_LIMIT, same_address))
        if not _is_known_or_unlocked(username, origin.network):
            elsewhere = max(_wait_s(USERNAME_LIMIT, same_name), 0 if invited else _wait_s(TOTAL_LIMIT))
    if here or elsewhere:
        raise TooManyAttemptsError(max(here, elsewhere), elsewhere=elsewhere > 0)


def _is_known_or_unlocked(username: str, network: str) -> bool:
    """Whether this user has logged in from this network before, or an administrator has unlocked the account."""
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
    """Return the seconds until fewer than `limit` failures lie in the window, or 0 if there are fewer already."""
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
