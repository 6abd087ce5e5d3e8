"""Who holds which slot: claiming the next one, taking one again, and how long a slot is held.

A slot is held until `claimed_until`. A sign of life from the page renews it (`renew`). Afterwards it has lapsed: claims
of others take it at once, without any job in the background, and until then its last holder goes on as if nothing had
happened. Every time is Postgres' own. Two people never hold a slot, because a claim locks its row and passes over rows
that others have locked. One person never gets a clip twice, because a clip that they have is never offered to them, and
unique indexes say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from app import records, take_up
from app.models import Assignment, AuditEntry, Decline, Study, db

_LOCK = 0x7261_636C  # "racl": one claim of a person at a time, so that a double click does not claim two clips
MAX_STEPS = 4  # looks for newly flagged clips in one request
QUALITIES = {"all": "", "sure": "AND NOT a.doubtful", "doubtful": "AND a.doubtful"}

# A correlated count instead of NOT EXISTS: Postgres would turn that into a join with all slots of the study.
_NEVER_MINE = """
    AND (SELECT count(*) FROM ra_assignments m WHERE m.audio_id = a.audio_id AND m.user_id = :user_id) = 0
    AND (SELECT count(*) FROM ra_declines d WHERE d.item_id = a.item_id AND d.user_id = :user_id) = 0
    AND (SELECT count(*) FROM ra_items i WHERE i.item_id = a.item_id AND i.withdrawn_at IS NULL) = 1
"""
LAPSED = "(a.claimed_until < now() OR a.claimed_until IS NULL)"
LAST = """coalesce(
    (SELECT max(m.position) FROM ra_assignments m WHERE m.user_id = :user_id AND m.study_id = :study_id), -1)"""
# The ways to a slot, in this order: what one holds already; what somebody left; what nobody had, forward from one's
# last clip and then from the start; and last what somebody set aside, so that they can come back to it for long.
_WAYS = (
    (
        "a.user_id = :user_id AND a.state = 'open' AND a.audio_id <> ALL (CAST(:besides AS bigint[]))",
        "a.claimed_until DESC NULLS LAST, a.position",
    ),
    (f"a.state = 'open' AND {LAPSED} {_NEVER_MINE}", "a.position"),
    (f"a.state = 'free' AND a.position > {LAST} {_NEVER_MINE}", "a.position"),
    (f"a.state = 'free' {_NEVER_MINE}", "a.position"),
    (f"a.state = 'skipped' {_NEVER_MINE}", "a.position"),
)
_PICK = """
    SELECT a.assignment_id, a.item_id, a.audio_id, a.user_id IS NOT DISTINCT FROM :user_id AS mine
    FROM ra_assignments a
    WHERE a.study_id = :study_id AND a.coder_number <= :coders {quality} AND {condition}
    ORDER BY {order} LIMIT 1 FOR UPDATE OF a SKIP LOCKED
"""
_HOLD = sa.text("""
    UPDATE ra_assignments a SET
        user_id = :user_id,
        state = 'open',
        claimed_until = now() + make_interval(secs => s.lease_s),
        opened_at = CASE WHEN a.user_id = :user_id THEN a.opened_at ELSE now() END,
        active_ms = CASE WHEN a.user_id = :user_id THEN a.active_ms ELSE 0 END
    FROM ra_studies s WHERE s.study_id = a.study_id AND a.assignment_id = :assignment_id
""")
_AVAILABLE = sa.text(f"""
    SELECT a.assignment_id FROM ra_assignments a JOIN ra_studies s USING (study_id)
    WHERE a.audio_id = :audio_id AND a.coder_number <= s.coders_per_item AND s.state = 'open'
      AND (a.state IN ('free', 'skipped', 'withdrawn') OR a.state = 'open' AND {LAPSED})
    ORDER BY a.study_id, a.coder_number LIMIT 1 FOR UPDATE OF a SKIP LOCKED
""")  # noqa: S608 - parts of a statement that stand above
_RENEW = sa.text("""
    UPDATE ra_assignments a SET claimed_until = now() + make_interval(secs => s.lease_s)
    FROM ra_studies s
    WHERE s.study_id = a.study_id AND a.user_id = :user_id AND a.state = 'open'
      AND a.audio_id = ANY (CAST(:audio_ids AS bigint[]))
    RETURNING a.audio_id, s.lease_s
""")


def claim_next(user_id: int, quality: str = "all", besides: Sequence[int] = ()) -> int | None:
    """Claim the next clip of an open study for this person. Commits.

    `besides` are clips in hand that the caller has already. Return the clip's number, or None if there is no clip for
    this person, of this quality, at the moment.
    """
    studies = sa.select(Study.study_id, Study.selection, Study.coders_per_item).where(Study.state == "open")
    for study in db.session.execute(studies.order_by(Study.study_id)).all():
        if study.selection == "flagged":
            take_up.top_up(study.study_id)
        found = _claim_in(study, user_id, quality, besides)
        steps = MAX_STEPS if study.selection == "flagged" else 0
        while found is None and steps:
            steps = 0 if take_up.take_up(study.study_id) else steps - 1
            found = _claim_in(study, user_id, quality, besides)
        if found is not None:
            return found
    db.session.rollback()
    return None


def _claim_in(study: Any, user_id: int, quality: str, besides: Sequence[int]) -> int | None:
    """Claim a slot of this study that is still to be labelled; clips that are not flagged any more are withdrawn."""
    while True:
        db.session.rollback()  # a transaction of its own: what it locks is let go before anything is withdrawn
        db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK, user_id % 2**31)))
        slot = _pick(study, user_id, quality, besides)
        if slot is None:
            return None
        if not slot.mine and study.selection == "flagged" and not take_up.flagged([slot.audio_id]):
            db.session.rollback()
            take_up.withdraw(slot.item_id)
            continue
        _hold(slot.assignment_id, user_id, slot.audio_id)
        db.session.commit()
        return int(slot.audio_id)


def _pick(study: Any, user_id: int, quality: str, besides: Sequence[int]) -> Any:
    values = {
        "study_id": study.study_id,
        "coders": study.coders_per_item,
        "user_id": user_id,
        "besides": list(besides),
    }
    for condition, order in _WAYS:
        query = _PICK.format(quality=QUALITIES[quality], condition=condition, order=order)
        found = db.session.execute(sa.text(query), values).first()
        if found is not None:
            return found
    return None


def take(user_id: int, audio_id: int) -> bool:
    """Let this person hold this clip (again), if a slot of it can be had. Commits. The caller checks that they may."""
    db.session.rollback()
    db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK, user_id % 2**31)))
    slot = slot_of(user_id, audio_id, lock=True)
    if slot is not None and slot.state == "submitted":
        db.session.rollback()
        return True
    found = slot.assignment_id if slot is not None else db.session.scalar(_AVAILABLE, {"audio_id": audio_id})
    if found is not None:
        _hold(found, user_id, audio_id)
    db.session.commit()
    return found is not None


def _hold(assignment_id: int, user_id: int, audio_id: int) -> None:
    db.session.execute(_HOLD, {"assignment_id": assignment_id, "user_id": user_id})
    take_back_decline(assignment_id, user_id)
    records.note(user_id, "claimed", audio_id, assignment_id)


def take_back_decline(assignment_id: int, user_id: int) -> None:
    item = sa.select(Assignment.item_id).where(Assignment.assignment_id == assignment_id).scalar_subquery()
    db.session.execute(sa.delete(Decline).where(Decline.item_id == item, Decline.user_id == user_id))


def in_hand(user_id: int) -> int | None:
    """Return the clip that this person would go on with: of those that they hold, the one that was held last."""
    query = (
        sa.select(Assignment.audio_id)
        .where(Assignment.user_id == user_id, Assignment.state == "open")
        .order_by(Assignment.claimed_until.desc().nulls_last(), Assignment.position)
        .limit(1)
    )
    return db.session.scalar(query)


def renew(user_id: int, audio_ids: Sequence[int]) -> dict[int, int]:
    """Hold these clips for another while. Return the seconds, by clip, of those that this person holds. No commit."""
    rows = db.session.execute(_RENEW, {"user_id": user_id, "audio_ids": list(audio_ids)})
    return {row.audio_id: row.lease_s for row in rows}


def slot_of(user_id: int, audio_id: int, *, lock: bool = False) -> Assignment | None:
    """Return this person's slot of the clip: held, set aside or labelled. `lock`: until the transaction ends."""
    query = sa.select(Assignment).where(Assignment.audio_id == audio_id, Assignment.user_id == user_id)
    if lock:
        query = query.with_for_update(of=Assignment).execution_options(populate_existing=True)
    return db.session.scalar(query)


def once_held(user_id: int, audio_id: int) -> int | None:
    """Return the number of the slot of this clip that this person has held before, or None."""
    query = (
        sa.select(AuditEntry.assignment_id)
        .where(AuditEntry.user_id == user_id, AuditEntry.audio_id == audio_id, AuditEntry.event == "claimed")
        .order_by(AuditEntry.entry_id.desc())
        .limit(1)
    )
    return db.session.scalar(query)
