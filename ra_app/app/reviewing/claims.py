"""Who holds which slot: claiming the next one, taking one again, and how long a slot is held.

A slot is held until `claimed_until`. A sign of life from the page renews it (`renew`). Afterwards it has lapsed: claims
of others take it at once, without any job in the background, and until then its last holder goes on as if nothing had
happened. Every time is Postgres' own. Two people never hold a slot, because a claim locks its row and passes over rows
that others have locked. One person never gets a clip twice in a study, nor in two studies at a time, because such a
clip is never offered to them, and unique indexes say the same. A clip that they have labelled in one study may come
again in another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from app.models import Assignment, AuditEntry, Decline, db
from app.reviewing import records
from app.studies import take_up

_LOCK = 0x7261_636C  # "racl": one claim of a person at a time, so that a double click does not claim two clips
MAX_STEPS = 4  # looks for newly flagged clips in one request
QUALITIES = {"all": "", "sure": "AND NOT a.doubtful", "doubtful": "AND a.doubtful"}

# A correlated count instead of NOT EXISTS: Postgres would turn that into a join with all slots of the study.
NOT_HAD = """
    AND (SELECT count(*) FROM ra_assignments m WHERE m.audio_id = a.audio_id AND m.user_id = :user_id
         AND (m.study_id = a.study_id OR m.state = 'open')) = 0
    AND (SELECT count(*) FROM ra_declines d WHERE d.item_id = a.item_id AND d.user_id = :user_id) = 0
"""
_NEVER_MINE = f"""{NOT_HAD}
    AND (SELECT count(*) FROM ra_items i WHERE i.item_id = a.item_id AND i.withdrawn_at IS NULL) = 1
"""  # noqa: S608 - conditions that stand above
LAPSED = "(a.claimed_until < now() OR a.claimed_until IS NULL)"
LAST = """coalesce(
    (SELECT max(m.position) FROM ra_assignments m WHERE m.user_id = :user_id AND m.study_id = :study_id), -1)"""
# Who takes part in a study: everybody, or its members.
_TAKES_PART = """(s.everybody OR EXISTS (
    SELECT FROM ra_study_members m WHERE m.study_id = s.study_id AND m.user_id = :user_id))"""
_OPEN_STUDIES = sa.text(f"""
    SELECT s.study_id, s.selection, s.policies, s.coders_per_item, s.head_audio_id FROM ra_studies s
    WHERE s.state = 'open' AND {_TAKES_PART} ORDER BY s.everybody, s.study_id
""")  # noqa: S608 - a condition that stands above
# What one would go on with: of the clips that one holds, in whatever study that still takes labels, the one held last.
_IN_HAND = """
    SELECT a.assignment_id, a.audio_id FROM ra_assignments a JOIN ra_studies s USING (study_id)
    WHERE a.user_id = :user_id AND a.state = 'open' AND s.state <> 'closed'
      AND a.audio_id <> ALL (CAST(:besides AS bigint[])) {quality}
    ORDER BY a.claimed_until DESC NULLS LAST, a.position LIMIT 1
"""
# The ways to another slot, in this order: what somebody left; what nobody had, forward from one's last clip and then
# from the start; and last what somebody set aside, so that they can come back to it for long.
_WAYS = (
    (f"a.state = 'open' AND {LAPSED} {_NEVER_MINE}", "a.position"),
    (f"a.state = 'free' AND a.position > {LAST} {_NEVER_MINE}", "a.position"),
    (f"a.state = 'free' {_NEVER_MINE}", "a.position"),
    (f"a.state = 'skipped' {_NEVER_MINE}", "a.position"),
)
_PICK = """
    SELECT a.assignment_id, a.item_id, a.audio_id
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
    SELECT a.assignment_id FROM ra_assignments a JOIN ra_studies s USING (study_id) JOIN ra_items i USING (item_id)
    WHERE a.audio_id = :audio_id AND a.coder_number <= least(i.coders, s.coders_per_item) AND s.state = 'open'
      AND (CAST(:item_id AS bigint) IS NULL OR a.item_id = :item_id) AND {_TAKES_PART}
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
    """Claim the clip that this person goes on with: one in hand, or the next of an open study. Commits.

    `besides` are clips in hand that the caller has already. Return the clip's number, or None if there is no clip for
    this person, of this quality, at the moment.
    """
    for study in open_studies(user_id):
        if study.selection == "flagged":
            take_up.top_up(study.study_id)
        found = _claim_in(study, user_id, quality, besides)
        steps = MAX_STEPS if study.selection == "flagged" else 0
        while found is None and steps:
            steps = 0 if take_up.take_up(study.study_id) else steps - 1
            found = _claim_in(study, user_id, quality, besides)
        if found is not None:
            return found
    held = _claim_again(user_id, quality, besides)  # if no study is open: what is in hand may be finished
    db.session.rollback()
    return held


def open_studies(user_id: int) -> Sequence[sa.Row[Any]]:
    """Return the open studies in which this person takes part: those for chosen people first, then the oldest first."""
    return db.session.execute(_OPEN_STUDIES, {"user_id": user_id}).all()


def _claim_again(user_id: int, quality: str, besides: Sequence[int]) -> int | None:
    """Claim what is in hand; if nothing is, stay in a transaction in which nobody else claims for this person."""
    _begin(user_id)
    slot = _in_hand(user_id, quality, besides, lock=True)
    return _hold_now(slot, user_id) if slot is not None else None


def _hold_now(slot: Any, user_id: int) -> int:
    _hold(slot.assignment_id, user_id, slot.audio_id)
    db.session.commit()
    return int(slot.audio_id)


def _claim_in(study: Any, user_id: int, quality: str, besides: Sequence[int]) -> int | None:
    """Claim what is in hand, or a slot of this study that is still to be labelled.

    Clips that are not flagged any more are withdrawn.
    """
    values = {"study_id": study.study_id, "coders": study.coders_per_item, "user_id": user_id}
    while (held := _claim_again(user_id, quality, besides)) is None:
        slot = _pick(values, quality)
        if slot is None:
            return None
        if study.selection == "flagged" and not take_up.flagged([slot.audio_id], study.policies):
            db.session.rollback()
            take_up.withdraw(slot.item_id)
            continue
        return _hold_now(slot, user_id)
    return held


def _begin(user_id: int) -> None:
    """Begin a transaction of its own: what it locks is let go before anything is withdrawn."""
    db.session.rollback()
    db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK, user_id % 2**31)))


def _pick(values: Mapping[str, Any], quality: str) -> Any:
    for condition, order in _WAYS:
        query = _PICK.format(quality=QUALITIES[quality], condition=condition, order=order)
        found = db.session.execute(sa.text(query), values).first()
        if found is not None:
            return found
    return None


def take(user_id: int, audio_id: int, named: int | None = None) -> bool:
    """Let this person hold this clip (again), if a slot of it can be had. Commits. The caller checks that they may.

    `named` is a slot that they once held: only slots of the same clip in the same study will do then.
    """
    _begin(user_id)
    slot, other = slot_of(user_id, audio_id, named, lock=True), slot_of(user_id, audio_id)
    if slot is not None and slot.state == "submitted":
        db.session.rollback()
        return True
    found = None
    if other is None or other.state != "open" or other is slot:  # else they hold the clip in another study
        found = _available(user_id, audio_id, named) if slot is None else _still_to_be_had(slot)
    if found is not None:
        _hold(found, user_id, audio_id)
    db.session.commit()
    return found is not None


def _still_to_be_had(slot: Assignment) -> int | None:
    return slot.assignment_id if slot.study.state != "closed" else None


def _available(user_id: int, audio_id: int, named: int | None) -> int | None:
    before = db.session.get(Assignment, named) if named is not None else None
    values = {"audio_id": audio_id, "item_id": before.item_id if before is not None else None, "user_id": user_id}
    found: int | None = db.session.scalar(_AVAILABLE, values)
    return found


def _hold(assignment_id: int, user_id: int, audio_id: int) -> None:
    db.session.execute(_HOLD, {"assignment_id": assignment_id, "user_id": user_id})
    take_back_decline(assignment_id, user_id)
    records.note(user_id, "claimed", audio_id, assignment_id)


def take_back_decline(assignment_id: int, user_id: int) -> None:
    item = _item_of(assignment_id)
    db.session.execute(sa.delete(Decline).where(Decline.item_id == item, Decline.user_id == user_id))


def in_hand(user_id: int) -> int | None:
    """Return the clip that this person would go on with."""
    slot = _in_hand(user_id, "all", ())
    return slot.audio_id if slot is not None else None


def _in_hand(user_id: int, quality: str, besides: Sequence[int], *, lock: bool = False) -> Any:
    query = _IN_HAND.format(quality=QUALITIES[quality]) + ("FOR UPDATE OF a SKIP LOCKED" if lock else "")
    return db.session.execute(sa.text(query), {"user_id": user_id, "besides": list(besides)}).first()


def renew(user_id: int, audio_ids: Sequence[int]) -> dict[int, int]:
    """Hold these clips for another while. Return the seconds, by clip, of those that this person holds. No commit."""
    rows = db.session.execute(_RENEW, {"user_id": user_id, "audio_ids": list(audio_ids)})
    return {row.audio_id: row.lease_s for row in rows}


def slot_of(user_id: int, audio_id: int, named: int | None = None, *, lock: bool = False) -> Assignment | None:
    """Return this person's slot of the clip: held, set aside or labelled. `lock`: until the transaction ends.

    In several studies, the one that they hold counts, else the one that they opened last. With `named`, a slot that
    they held once, it is the one in the same study.
    """
    query = sa.select(Assignment).where(Assignment.audio_id == audio_id, Assignment.user_id == user_id)
    if named is not None:
        query = query.where(Assignment.item_id == _item_of(named))
    first = (Assignment.state == "open").desc(), Assignment.opened_at.desc().nulls_last()
    query = query.order_by(*first, Assignment.assignment_id.desc()).limit(1)
    if lock:
        query = query.with_for_update(of=Assignment).execution_options(populate_existing=True)
    return db.session.scalar(query)


def once_held(user_id: int, audio_id: int, named: int | None = None) -> int | None:
    """Return the number of the slot of this clip that this person has held before, the last one, or None.

    With `named`, only in the study of that slot.
    """
    held = sa.select(AuditEntry.assignment_id).where(
        AuditEntry.user_id == user_id, AuditEntry.audio_id == audio_id, AuditEntry.event == "claimed"
    )
    if named is not None:
        slots = sa.select(Assignment.assignment_id).where(Assignment.item_id == _item_of(named))
        held = held.where(AuditEntry.assignment_id.in_(slots))
    return db.session.scalar(held.order_by(AuditEntry.entry_id.desc()).limit(1))


def _item_of(assignment_id: int) -> sa.ScalarSelect[int]:
    return sa.select(Assignment.item_id).where(Assignment.assignment_id == assignment_id).scalar_subquery()
