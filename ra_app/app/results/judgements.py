"""The one place that reads the judgements of a study.

A judgement is the label of a submitted slot that counts. Which one counts is a choice (`Which`): the newest; the newest
that was given blind, for studies in which the verdict may be revealed; or the first, for training, where the reference
is seen after it. A label of the codebook that says “could not decide” makes the judgement count as none. Judgements of
different codebook versions are never mixed: all that is read here is of one version.

Nothing here reads a judgement into memory: Postgres counts the clips that were judged alike, and the counts are
streamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Literal

import sqlalchemy as sa

from app.codebooks.codebook import Codebook, of_content
from app.codebooks.published import codebook_in_force
from app.errors import CodebookError
from app.models import Pseudonym, PublishedCodebook, Study, db

Which = Literal["newest", "blind", "first"]
_BATCH = 5000  # rows that are fetched at once
_ORDER = {"newest": "DESC", "blind": "DESC", "first": "ASC"}

# A slot has few labels, and their index is along the slot. The columns are all that any reader needs.
_COUNTED = """
    SELECT a.item_id, a.audio_id, a.assignment_id, a.user_id, l.label_id, l.codebook_id, l.codebook_version, l.labels,
           l.answers, l.confidence, l.note, l.spans, l.created_at
    FROM ra_assignments a
    CROSS JOIN LATERAL ({label}) l
    WHERE a.study_id = :study_id AND a.state = 'submitted'
"""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A codebook version by which judgements of a study were made, and its labels."""

    codebook: Codebook
    judgements: int
    newest_label: int
    newest_at: datetime

    @property
    def name(self) -> str:
        return self.codebook.version

    @property
    def undecided(self) -> list[str]:
        return [label.code for label in self.codebook.labels if label.undecided]

    def binds(self) -> dict[str, object]:
        return {
            "codebook_id": self.codebook.id,
            "codebook_version": self.codebook.version,
            "undecided": self.undecided,
        }


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Clips that the same coders judged with the same labels."""

    week: date  # the Monday of the week (UTC) in which the last of the clip's judgements was made
    answers: tuple[tuple[int, frozenset[str]], ...]  # user and labels, in the order of users
    clips: int


def which_of(study: Study, asked: str | None = None) -> Which:
    """Return which label of a slot counts. Only where the verdict may be revealed can one ask for the newest."""
    if study.kind == "training":
        return "first"
    return "blind" if study.mode == "reveal" and asked != "newest" else "newest"


def counted(which: Which) -> str:
    """Return the query of all judgements of the study `:study_id`, of whatever codebook version."""
    return _COUNTED.format(label=label_of_slot(which))


def label_of_slot(which: Which) -> str:
    """Return the query of the label that counts of the slot `a`."""
    blind = "AND n.blind" if which == "blind" else ""
    return f"""
        SELECT * FROM ra_labels n WHERE n.assignment_id = a.assignment_id {blind}
        ORDER BY n.label_id {_ORDER[which]} LIMIT 1
    """  # noqa: S608 - words of this module


def decided(which: Which) -> str:
    """Return the query of the judgements of one version in which the coder could decide (`Version.binds`)."""
    return f"""
        SELECT * FROM ({counted(which)}) c
        WHERE c.codebook_id = :codebook_id AND c.codebook_version = :codebook_version
          AND NOT jsonb_exists_any(c.labels, CAST(:undecided AS text[]))
    """  # noqa: S608 - a statement that stands above


def versions(study: Study, which: Which) -> list[Version]:
    """Return the codebook versions by which the study was judged: the one that was used last is first."""
    rows = db.session.execute(
        sa.text(f"""
            SELECT codebook_id, codebook_version, count(*) AS judgements, max(label_id) AS newest_label,
                   max(created_at) AS newest_at
            FROM ({counted(which)}) c GROUP BY 1, 2 ORDER BY max(label_id) DESC
        """),  # noqa: S608 - a statement that stands above
        {"study_id": study.study_id},
    )
    return [
        Version(
            codebook=codebook_named(row.codebook_id, row.codebook_version),
            judgements=row.judgements,
            newest_label=row.newest_label,
            newest_at=row.newest_at,
        )
        for row in rows
    ]


def codebook_named(codebook_id: str, version: str) -> Codebook:
    """Return a codebook version; one that was never published has no labels, so nothing can be counted by it."""
    ours = codebook_in_force()
    if (ours.id, ours.version) == (codebook_id, version):
        return ours
    content = db.session.scalar(
        sa.select(PublishedCodebook.content).where(
            PublishedCodebook.codebook_id == codebook_id, PublishedCodebook.version == version
        )
    )
    try:
        return (
            of_content(content)
            if content is not None
            else Codebook(id=codebook_id, version=version, title="Not published", labels=())
        )
    except CodebookError:
        return Codebook(id=codebook_id, version=version, title="Not published", labels=())


def alike(study: Study, which: Which, version: Version) -> Iterator[Alike]:
    """Count the clips that were judged alike, in each week."""
    query = sa.text(f"""
        SELECT week, answers, count(*) AS clips
        FROM (
            SELECT date_trunc('week', max(created_at) AT TIME ZONE 'UTC')::date AS week,
                   string_agg(user_id || ' ' || labels::text, chr(10) ORDER BY user_id) AS answers
            FROM ({decided(which)}) d GROUP BY item_id
        ) clips GROUP BY week, answers ORDER BY week, answers
    """)  # noqa: S608 - statements of this module
    rows = db.session.execute(
        query, {"study_id": study.study_id, **version.binds()}, execution_options={"yield_per": _BATCH}
    )
    for row in rows:
        yield Alike(week=row.week, answers=tuple(_answer(line) for line in row.answers.split("\n")), clips=row.clips)


def pseudonyms(users: Sequence[int]) -> dict[int, str]:
    """Return the names that stand for these people. Names of accounts are never read for results."""
    rows = db.session.execute(
        sa.select(Pseudonym.user_id, Pseudonym.pseudonym).where(Pseudonym.user_id.in_(set(users)))
    )
    return {row.user_id: row.pseudonym for row in rows}


def _answer(line: str) -> tuple[int, frozenset[str]]:
    user, _, labels = line.partition(" ")
    return int(user), _codes(labels)


@lru_cache(maxsize=4096)
def _codes(labels: str) -> frozenset[str]:
    return frozenset(map(str, json.loads(labels)))
