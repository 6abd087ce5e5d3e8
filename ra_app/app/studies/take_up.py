"""Takes newly flagged clips into a study, a bounded number at a time, and withdraws those that are flagged no more.

Nothing here reads the whole queue: flagged clips are found along the index of `classifications` (their numbers only),
and the view `ra_queue` is asked about at most `STEP` numbers at a time. A step looks first behind the highest number
that it has seen, and then goes on with its round over all lower numbers, where a clip may be flagged late or again.

A step begins when few slots are free, at most every `EVERY_S` seconds, and whenever somebody would otherwise get no
clip. One at a time: a step holds an advisory lock. It must not begin in a transaction that has locked slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from app.models import Item, Study, db
from app.pipeline import classifications
from app.studies import slots

LOW = 200  # free slots below which a step begins
STEP = 500  # clips that one step looks at; some milliseconds
EVERY_S = 5
_LOCK = 0x7261_7475  # "ratu"

# One look into the view per clip. For a list of clips in a condition Postgres would read the verdicts of all clips; the
# LIMIT keeps it from joining the view with the list, which would come to the same.
FLAGGED = sa.text("""
    SELECT c.audio_id, q.finding = 'doubtful' AS doubtful
    FROM unnest(CAST(:audio_ids AS bigint[])) c (audio_id)
    CROSS JOIN LATERAL (SELECT finding, policies FROM ra_queue WHERE ra_queue.audio_id = c.audio_id LIMIT 1) q
    WHERE cardinality(CAST(:policies AS text[])) = 0 OR q.policies && CAST(:policies AS text[])
""")
_ADD_ITEMS = sa.text("""
    INSERT INTO ra_items AS i (study_id, audio_id, position, doubtful)
    SELECT :study_id, f.audio_id, f.audio_id, f.doubtful
    FROM unnest(CAST(:audio_ids AS bigint[]), CAST(:doubtful AS boolean[])) f (audio_id, doubtful)
    ON CONFLICT (study_id, audio_id) DO UPDATE SET withdrawn_at = NULL, doubtful = excluded.doubtful
    WHERE i.withdrawn_at IS NOT NULL OR i.doubtful <> excluded.doubtful
""")
_RENEW_DOUBT = sa.text("""
    UPDATE ra_assignments a
    SET doubtful = i.doubtful
    FROM ra_items i
    WHERE a.item_id = i.item_id AND i.study_id = :study_id AND i.audio_id = ANY (:audio_ids)
      AND a.doubtful <> i.doubtful
""")
_FEW_FREE = sa.text("""
    SELECT count(*) < :low
    FROM (SELECT FROM ra_assignments WHERE study_id = :study_id AND state = 'free' LIMIT :low) f
""")


def top_up(study_id: int) -> None:
    """Take up clips if few slots are free and nobody has just done it. Ends the transaction."""
    if db.session.scalar(_FEW_FREE, {"study_id": study_id, "low": LOW}):
        _step(study_id, hurry=False)
    db.session.rollback()


def take_up(study_id: int) -> bool:
    """Take up clips now, since somebody waits. Commits. Return whether a look at all flagged clips has ended."""
    return _step(study_id, hurry=True)


def flagged(audio_ids: Sequence[int], policies: Sequence[str] = ()) -> dict[int, bool]:
    """Return those of the clips that are flagged now, and whether the transcript of each is doubtful.

    Flagged is what one of the policies has flagged by its verdict in force; without policies, what any has.
    """
    rows = db.session.execute(FLAGGED, {"audio_ids": list(audio_ids), "policies": list(policies)})
    return {row.audio_id: bool(row.doubtful) for row in rows}


def count_arrivals(study: Any) -> int:
    """Return how many flagged clips have arrived that were not taken up yet; at most `LOW`. Changes nothing."""
    found = _violating(after=study.head_audio_id, limit=LOW)
    if not found:
        return 0
    known = sa.select(Item.audio_id).where(Item.study_id == study.study_id, Item.audio_id.in_(found))
    return len(flagged(found, study.policies).keys() - set(db.session.scalars(known)))


def withdraw(item_id: int) -> None:
    """Nobody gets this clip until it is flagged again. Whoever holds it may finish. Commits."""
    values = {"item_id": item_id}
    db.session.execute(sa.text("UPDATE ra_items SET withdrawn_at = now() WHERE item_id = :item_id"), values)
    db.session.execute(
        sa.text("UPDATE ra_assignments SET state = 'withdrawn' WHERE item_id = :item_id AND state = 'free'"), values
    )
    db.session.commit()


def _step(study_id: int, *, hurry: bool) -> bool:
    if not _lock(study_id, wait=hurry):
        return False
    study = db.session.execute(
        sa.select(
            Study.head_audio_id,
            Study.round_audio_id,
            Study.policies,
            (Study.taken_up_at > sa.func.now() - sa.text(f"interval '{EVERY_S} s'")).label("just_now"),
        ).where(Study.study_id == study_id)
    ).one()
    if study.just_now and not hurry:
        return False
    head, arrived = study.head_audio_id, _violating(after=study.head_audio_id, limit=STEP)
    rest = STEP - len(arrived)
    earlier = _violating(after=study.round_audio_id, limit=rest, until=head) if rest else []
    ended = len(earlier) < rest
    _add(study_id, flagged([*arrived, *earlier], study.policies))
    if not ended:
        at = earlier[-1] if earlier else study.round_audio_id
    db.session.execute(
        sa.update(Study)
        .where(Study.study_id == study_id)
        .values(
            head_audio_id=arrived[-1] if arrived else head,
            round_audio_id=0 if ended else at,
            taken_up_at=sa.func.now(),
        )
    )
    db.session.commit()
    return ended


def _lock(study_id: int, *, wait: bool) -> bool:
    """Let one process take up clips of a study at a time, until its transaction ends."""
    key = (_LOCK, study_id % 2**31)
    if wait:
        db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(*key)))
        return True
    return bool(db.session.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(*key))))


def _violating(*, after: int, limit: int, until: int | None = None) -> list[int]:
    """Return numbers of clips with any verdict that a policy is violated, also one that is in force no more."""
    query = sa.select(classifications.c.audio_id).distinct().where(classifications.c.violates)
    query = query.where(classifications.c.audio_id > after)
    if until is not None:
        query = query.where(classifications.c.audio_id <= until)
    return list(db.session.scalars(query.order_by(classifications.c.audio_id).limit(limit)))


def _add(study_id: int, found: dict[int, bool]) -> None:
    audio_ids = sorted(found)
    values: dict[str, Any] = {"study_id": study_id, "audio_ids": audio_ids}
    db.session.execute(_ADD_ITEMS, {**values, "doubtful": [found[audio_id] for audio_id in audio_ids]})
    slots.complete(study_id, audio_ids)
    db.session.execute(_RENEW_DOUBT, values)
