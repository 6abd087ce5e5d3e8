"""The published versions of all codebooks: who published each, how many labels name it, and which studies use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from app.codebooks.codebook import Codebook, of_content
from app.codebooks.diff import Entry
from app.codebooks.published import codebook_in_force
from app.models import LabelRow, PublishedCodebook, Study, User, db

# A change of these fields may change what a label means; a change of its key or of an example does not.
MEANING = frozenset({"Name", "Definition", "Use when", "Avoid when"})


@dataclass(frozen=True, kw_only=True)
class Version:
    codebook_id: str
    version: str
    title: str
    sha256: str
    published_at: datetime
    published_by: str | None  # None: a deploy, from its file
    note: str
    labels: int  # that name it
    studies: tuple[Study, ...]  # that are labelled by it now


def all_versions() -> list[Version]:
    """Return every version, those of one codebook together, the newest first."""
    given = _counts()
    using = _studies()
    query = (
        sa.select(PublishedCodebook, User.username)
        .outerjoin(User, User.user_id == PublishedCodebook.published_by)
        .order_by(PublishedCodebook.codebook_id, PublishedCodebook.published_at.desc())
    )
    return [
        Version(
            codebook_id=row.codebook_id,
            version=row.version,
            title=row.content["title"],
            sha256=row.sha256,
            published_at=row.published_at,
            published_by=name,
            note=row.note,
            labels=given.get((row.codebook_id, row.version), 0),
            studies=tuple(using.get((row.codebook_id, row.version), ())),
        )
        for row, name in db.session.execute(query)
    ]


def find(codebook_id: str, version: str) -> Codebook | None:
    row = db.session.get(PublishedCodebook, (codebook_id, version))
    return of_content(row.content) if row is not None else None


def named(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Codebook]:
    """Return these versions, by the name of the codebook and the version, as far as they are published."""
    found = {pair: find(*pair) for pair in set(pairs)}
    return {pair: codebook for pair, codebook in found.items() if codebook is not None}


def known_policies() -> list[str]:
    """Return the ids of the policies by which the pipeline has ever judged."""
    return list(db.session.scalars(sa.text("SELECT DISTINCT policy FROM policies ORDER BY policy")))


def in_use(codebook_id: str, changes: Iterable[Entry]) -> list[Entry]:
    """Return those labels whose meaning may have changed, or that are gone, and that labels of this codebook name."""
    touched = [
        entry
        for entry in changes
        if entry.what == "label"
        and (entry.kind == "removed" or (entry.kind == "changed" and MEANING & {field.name for field in entry.fields}))
    ]
    return [entry for entry in touched if _is_given(codebook_id, entry.code)]


def _is_given(codebook_id: str, code: str) -> bool:
    given = sa.select(1).where(LabelRow.codebook_id == codebook_id, LabelRow.labels.op("?")(code))
    return bool(db.session.scalar(sa.select(given.exists())))


def _counts() -> dict[tuple[str, str], int]:
    query = sa.select(LabelRow.codebook_id, LabelRow.codebook_version, sa.func.count())
    rows = db.session.execute(query.group_by(LabelRow.codebook_id, LabelRow.codebook_version))
    return {(codebook_id, version): count for codebook_id, version, count in rows}


def _studies() -> dict[tuple[str, str], list[Study]]:
    ours = codebook_in_force()
    using: dict[tuple[str, str], list[Study]] = {}
    for study in db.session.scalars(sa.select(Study).order_by(Study.study_id)):
        named = (study.codebook_id or ours.id, study.codebook_version or ours.version)
        using.setdefault(named, []).append(study)
    return using
