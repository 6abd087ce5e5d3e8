"""Clips on which the coders of a study disagree, and what a lead decides on them.

A clip waits for a decision when nobody is to label it any more, at least two people have, and their labels or answers
differ. Decisions are rows that are only added; the newest of a clip counts. It names the labels that were compared
(`label_ids`): when one of them was changed since, the clip is to be looked at again. Nothing here commits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from app import acts
from app.codebooks.codebook import Codebook
from app.models import Decision, Item, Study, User, db
from app.results import judgements
from app.results.judgements import Which

Standing = Literal["open", "again", "decided"]
STANDINGS: dict[str, str] = {"open": "To be decided", "again": "To be looked at again", "decided": "Decided"}
PAGE_SIZE = 50
MOST_COUNTED = 1000
REASON_LENGTH = 2000  # characters

# The slots of one item that count: those up to its number of coders, and every one that holds a label. Labels are
# compared as sets. A clip with a free, held or set-aside slot still waits for its coders.
_COMPARED = """
    SELECT array_agg(l.label_id ORDER BY l.label_id) FILTER (WHERE l.label_id IS NOT NULL) AS label_ids,
           count(DISTINCT (l.codes, l.answers)) FILTER (WHERE l.label_id IS NOT NULL) > 1 AS differ
    FROM ra_assignments a
    LEFT JOIN LATERAL (
        SELECT one.label_id, one.answers,
               (SELECT array_agg(code ORDER BY code) FROM jsonb_array_elements_text(one.labels) code)::text AS codes
        FROM ({label}) one
    ) l ON a.state = 'submitted'
    WHERE a.item_id = i.item_id
    HAVING bool_and(a.state IN ('submitted', 'withdrawn') OR a.coder_number > coalesce(i.coders, s.coders_per_item))
"""
_DISAGREED = """
    WITH twice AS MATERIALIZED (
        SELECT item_id FROM ra_assignments WHERE study_id = :study_id AND state = 'submitted'
        GROUP BY item_id HAVING count(*) > 1
    )
    SELECT i.item_id, i.audio_id, c.label_ids, d.decision_id, d.at AS decided_at,
           CASE WHEN d.decision_id IS NULL THEN 'open' WHEN d.label_ids = c.label_ids THEN 'decided' ELSE 'again' END
           AS standing
    FROM twice JOIN ra_items i USING (item_id) JOIN ra_studies s ON s.study_id = i.study_id
    CROSS JOIN LATERAL ({compared}) c
    LEFT JOIN LATERAL (
        SELECT n.decision_id, n.at, (SELECT array_agg(id ORDER BY id) FROM unnest(n.label_ids) id) AS label_ids
        FROM ra_decisions n WHERE n.item_id = i.item_id ORDER BY n.decision_id DESC LIMIT 1
    ) d ON true
    WHERE c.differ {more}
"""
# Some of the clip's coders gave this label, and some did not.
_ON_LABEL = """
    AND (SELECT count(DISTINCT jsonb_exists(n.labels, :code)) FROM ra_labels n WHERE n.label_id = ANY (c.label_ids)) > 1
"""


@dataclass(frozen=True, kw_only=True)
class Disagreed:
    item_id: int
    audio_id: int
    label_ids: tuple[int, ...]
    standing: Standing
    decision_id: int | None


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """One coder's label, without who it was. `name` is “Coder 1” and so on, in an order that is the clip's own."""

    name: str
    labels: list[str]
    answers: dict[str, Any]
    confidence: int | None
    note: str
    spans: list[Any]
    version: str


def waiting(
    study: Study, which: Which, standing: str, *, code: str | None = None, after: int = 0, limit: int = PAGE_SIZE
) -> list[Disagreed]:
    """Return clips of this standing on which coders disagree, by their number, behind the item `after`."""
    more = "AND i.item_id > :after" + (_ON_LABEL if code is not None else "")
    query = f"SELECT * FROM ({_disagreed(which, more)}) q WHERE standing = :standing ORDER BY item_id LIMIT :limit"  # noqa: S608 - statements of this module
    values = {"study_id": study.study_id, "after": after, "standing": standing, "limit": limit, "code": code}
    return [_disagreement(row) for row in db.session.execute(sa.text(query), _used(values, code))]


def counts(study: Study, which: Which, code: str | None = None) -> dict[str, int]:
    """Return how many clips have each standing. At most `MOST_COUNTED` are counted, the first of the study."""
    first = f"{_disagreed(which, _ON_LABEL if code is not None else '')} ORDER BY i.item_id LIMIT :most"
    query = f"SELECT standing, count(*) FROM ({first}) q GROUP BY standing"  # noqa: S608 - statements of this module
    values = _used({"study_id": study.study_id, "most": MOST_COUNTED, "code": code}, code)
    counted = {row[0]: row[1] for row in db.session.execute(sa.text(query), values)}
    return {standing: counted.get(standing, 0) for standing in STANDINGS}


def found(study: Study, which: Which, item_id: int) -> Disagreed | None:
    """Return what is to be decided on this clip, or None if its coders agree or are not done."""
    query = sa.text(_disagreed(which, "AND i.item_id = :item_id"))
    row = db.session.execute(query, {"study_id": study.study_id, "item_id": item_id}).first()
    return _disagreement(row) if row is not None else None


def opinions(study: Study, which: Which, item_id: int) -> list[Opinion]:
    """Return the labels of a clip. Their order is drawn per clip, so that no coder is always the first."""
    query = sa.text(f"SELECT * FROM ({judgements.counted(which)}) c WHERE item_id = :item_id")  # noqa: S608 - as there
    rows = db.session.execute(query, {"study_id": study.study_id, "item_id": item_id}).all()

    def drawn(row: Any) -> str:
        return hashlib.sha256(f"{study.seed} {item_id} {row.assignment_id}".encode()).hexdigest()

    return [
        Opinion(
            name=f"Coder {number}",
            labels=row.labels,
            answers=row.answers,
            confidence=row.confidence,
            note=row.note,
            spans=row.spans,
            version=row.codebook_version,
        )
        for number, row in enumerate(sorted(rows, key=drawn), 1)
    ]


def codebook_to_use(label_ids: Sequence[int], otherwise: Codebook) -> Codebook:
    """Return the codebook of the newest of the labels, so that a decision is counted with them."""
    row = db.session.execute(
        sa.text("SELECT codebook_id, codebook_version FROM ra_labels WHERE label_id = :newest"),
        {"newest": max(label_ids, default=0)},
    ).first()
    if row is None:
        return otherwise
    codebook = judgements.codebook_named(row.codebook_id, row.codebook_version)
    return codebook if codebook.labels else otherwise


def newest(item_id: int) -> Decision | None:
    query = sa.select(Decision).where(Decision.item_id == item_id).order_by(Decision.decision_id.desc()).limit(1)
    return db.session.scalar(query)


def locked(study: Study, item_id: int) -> Item | None:
    """Return the item and hold it until the transaction ends, so that two leads decide one after the other."""
    query = sa.select(Item).where(Item.item_id == item_id, Item.study_id == study.study_id)
    return db.session.scalar(query.with_for_update())


def put(
    study: Study,
    item: Item,
    by: User,
    codebook: Codebook,
    codes: Sequence[str],
    answers: Mapping[str, Sequence[str]],
    reason: str,
    label_ids: Sequence[int],
) -> None:
    """Store a decision. The caller holds the item and has checked the form, and that nothing changed since."""
    ordered = [label.code for label in codebook.labels if label.code in codes]
    db.session.add(
        Decision(
            item_id=item.item_id,
            codebook_id=codebook.id,
            codebook_version=codebook.version,
            labels=ordered,
            answers=codebook.answers_to_store(ordered, answers),
            reason=reason,
            label_ids=sorted(label_ids),
            user_id=by.user_id,
        )
    )
    acts.note(by, "decided", study=study, subject=str(item.audio_id), labels=ordered)


def _disagreed(which: Which, more: str) -> str:
    compared = _COMPARED.format(label=judgements.label_of_slot(which))
    return _DISAGREED.format(compared=compared, more=more)


def _disagreement(row: Any) -> Disagreed:
    return Disagreed(
        item_id=row.item_id,
        audio_id=row.audio_id,
        label_ids=tuple(row.label_ids),
        standing=row.standing,
        decision_id=row.decision_id,
    )


def _used(values: dict[str, Any], code: str | None) -> dict[str, Any]:
    return values if code is not None else {name: value for name, value in values.items() if name != "code"}
