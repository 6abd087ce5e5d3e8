"""The slots of a study: how many people label each of its clips, and which clips these are.

A study gives each clip `coders_per_item` slots, or gives them to a part of its clips (`double_share`) and one slot to
the others. Which clips get all of them is decided by a hash of the study's seed and the clip's number, so it does not
change when clips are added, and a larger share keeps the clips of the smaller one. Nothing here commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from app.models import db

HASH_BITS = 60  # of an md5, as a positive bigint
# Different words make independent orders of the same clips: which are drawn says nothing of when they come.
DRAWN, PLACED, DOUBLED = "drawn", "placed", "doubled"

_SHARE = """
    UPDATE ra_items i SET coders = CASE WHEN s.double_share < 1 AND {hash} >= s.double_share * power(2, {bits})
                                        THEN 1 END
    FROM ra_studies s
    WHERE s.study_id = i.study_id AND i.study_id = :study_id
      AND (CAST(:audio_ids AS bigint[]) IS NULL OR i.audio_id = ANY (CAST(:audio_ids AS bigint[])))
      AND (i.coders IS NOT NULL OR s.double_share < 1)
"""
_ADD = sa.text("""
    INSERT INTO ra_assignments
        (audio_id, item_id, coder_number, study_id, position, doubtful, user_id, state, opened_at)
    SELECT i.audio_id, i.item_id, n.number, i.study_id, i.position, i.doubtful, NULL, 'free', NULL
    FROM ra_items i JOIN ra_studies s USING (study_id)
    CROSS JOIN generate_series(1, least(i.coders, s.coders_per_item)) n (number)
    WHERE i.study_id = :study_id AND i.withdrawn_at IS NULL
      AND (CAST(:audio_ids AS bigint[]) IS NULL OR i.audio_id = ANY (CAST(:audio_ids AS bigint[])))
    ORDER BY i.position, n.number
    ON CONFLICT (item_id, coder_number) DO NOTHING
""")
# A slot that waits for a person is withdrawn if it is one too many, and comes back when it is not any more.
_SETTLE = sa.text("""
    UPDATE ra_assignments a SET state = CASE a.state WHEN 'free' THEN 'withdrawn' ELSE 'free' END
    FROM ra_items i JOIN ra_studies s USING (study_id)
    WHERE a.item_id = i.item_id AND i.study_id = :study_id AND a.study_id = :study_id
      AND (CAST(:audio_ids AS bigint[]) IS NULL OR i.audio_id = ANY (CAST(:audio_ids AS bigint[])))
      AND a.state = CASE WHEN a.coder_number <= least(i.coders, s.coders_per_item) AND i.withdrawn_at IS NULL
                         THEN 'withdrawn' ELSE 'free' END
""")


def order_of(word: str, seed: str, audio_id: str) -> str:
    """Return SQL for the place of a clip in a seeded order: a whole number below 2 to the power of 60.

    The order can be computed again anywhere: it is the md5 of "word:seed:clip", its first 15 hexadecimal digits.
    `seed` and `audio_id` are SQL.
    """
    return f"CAST(CAST('x' || left(md5('{word}:' || {seed} || ':' || {audio_id}), 15) AS bit({HASH_BITS})) AS bigint)"


_CHOOSE = sa.text(_SHARE.format(hash=order_of(DOUBLED, "s.seed", "i.audio_id"), bits=HASH_BITS))


def complete(study_id: int, audio_ids: Sequence[int] | None = None) -> None:
    """Give the clips of a study (these, or all) the slots that they shall have. What somebody has done stays."""
    values = {"study_id": study_id, "audio_ids": list(audio_ids) if audio_ids is not None else None}
    for statement in (_CHOOSE, _ADD, _SETTLE):
        db.session.execute(statement, values)


def most_slots(columns: Mapping[str, Any], clips: int) -> int:
    """Return how many slots so many clips get in a study with these columns; about, as the share is drawn by clip."""
    return int(clips * (1 + (columns["coders_per_item"] - 1) * columns["double_share"]) + 0.5)
