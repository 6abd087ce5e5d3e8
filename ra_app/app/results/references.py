"""The labels that clips should get, and how coders compare with them.

A reference belongs to a clip and one codebook version. Rows are only added; the newest of a clip and version counts,
and one without labels takes the reference back. In a training study the reference is shown to a coder after the own
label, so what is compared there is the first label of the slot (`judgements.which_of`). Nothing here commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app import acts
from app.codebooks.codebook import Codebook
from app.models import Reference, Study, User, db
from app.pipeline import audio_files
from app.results import judgements
from app.results.judgements import Version, Which
from app.statistics.estimate import Estimate, undefined
from app.statistics.proportions import proportion

PAGE_SIZE = 50
REASON_LENGTH = 2000  # characters
NO_REFERENCE = "no reference of a clip that the coder judged has it"
NEVER_GIVEN = "the coder never gave it to a clip with a reference"

# The newest reference of each clip by one codebook version; also those that were taken back, whose labels are null.
NEWEST = """
    SELECT DISTINCT ON (audio_id) reference_id, at, audio_id, codebook_id, codebook_version, labels, reason
    FROM ra_references WHERE codebook_id = :codebook_id AND codebook_version = :codebook_version
    ORDER BY audio_id, reference_id DESC
"""
_LIST = f"""
    SELECT r.* FROM ({NEWEST}) r JOIN ra_items i ON i.audio_id = r.audio_id AND i.study_id = :study_id
    WHERE r.labels IS NOT NULL ORDER BY r.audio_id LIMIT :limit OFFSET :offset
"""  # noqa: S608 - a statement that stands above


@dataclass(frozen=True, kw_only=True)
class Entry:
    audio_id: int
    labels: list[str]
    reason: str
    at: datetime


@dataclass(kw_only=True)
class _Counts:
    compared: int = 0
    undecided: int = 0
    equal: int = 0
    both: Counter[str] = field(default_factory=Counter)  # by label: clips to which coder and reference give it
    by_coder: Counter[str] = field(default_factory=Counter)
    by_reference: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class OfCoder:
    """One coder against the references."""

    name: str  # a pseudonym
    equal: Estimate  # clips whose labels are just those of the reference
    undecided: int  # clips of which the coder said that they could not decide: in no number
    labels: tuple[tuple[str, Estimate, Estimate], ...]  # name, sensitivity, precision


def problem(study: Study, codebook: Codebook, audio_id: int, codes: Sequence[str], reason: str) -> str | None:
    """Return why this reference cannot be set, or None."""
    known = sa.select(1).where(audio_files.c.audio_id == audio_id)
    inside = sa.text("SELECT 1 FROM ra_items WHERE study_id = :study_id AND audio_id = :audio_id")
    if not 0 < audio_id < 2**63 or db.session.scalar(known) is None:
        return f"There is no clip {audio_id}."
    if db.session.scalar(inside, {"study_id": study.study_id, "audio_id": audio_id}) is None:
        return f"Clip {audio_id} is not in this study."
    if len(reason) > REASON_LENGTH:
        return f"The reason has {len(reason)} characters. Shorten it to {REASON_LENGTH} or fewer."
    unknown = [code for code in codes if codebook.label(code) is None]
    if unknown:
        known_codes = ", ".join(label.code for label in codebook.labels)
        return f"The codebook has no label “{unknown[0]}”. Its labels are: {known_codes}."
    return codebook.problem(codes) if codes else "Choose at least one label."


def put(study: Study, codebook: Codebook, by: User, audio_id: int, codes: Sequence[str], reason: str) -> None:
    """Set the reference of a clip. The caller has checked `problem`."""
    ordered = [label.code for label in codebook.labels if label.code in codes]
    _add(codebook, by, audio_id, ordered, reason)
    acts.note(by, "reference-set", study=study, subject=str(audio_id), labels=ordered)


def take_back(study: Study, codebook: Codebook, by: User, audio_id: int) -> bool:
    """Take a reference back. Return whether there was one."""
    if found(codebook, audio_id) is None:
        return False
    _add(codebook, by, audio_id, None, "")
    acts.note(by, "reference-withdrawn", study=study, subject=str(audio_id))
    return True


def found(codebook: Codebook, audio_id: int) -> Entry | None:
    """Return the reference of a clip by this codebook version, or None."""
    row = db.session.execute(
        sa.text(f"SELECT * FROM ({NEWEST}) r WHERE audio_id = :audio_id AND labels IS NOT NULL"),  # noqa: S608 - as above
        {"audio_id": audio_id, **_version(codebook)},
    ).first()
    return Entry(audio_id=row.audio_id, labels=row.labels, reason=row.reason, at=row.at) if row is not None else None


def page(study: Study, codebook: Codebook, number: int) -> tuple[list[Entry], bool]:
    """Return one page of the references of the study's clips, and whether there are more."""
    values = {"study_id": study.study_id, "limit": PAGE_SIZE + 1, "offset": (number - 1) * PAGE_SIZE}
    rows = db.session.execute(sa.text(_LIST), {**values, **_version(codebook)})
    entries = [Entry(audio_id=row.audio_id, labels=row.labels, reason=row.reason, at=row.at) for row in rows]
    return entries[:PAGE_SIZE], len(entries) > PAGE_SIZE


def coders(study: Study, which: Which, version: Version) -> list[OfCoder]:
    """Compare the judgements of each coder with the references of their clips, by one codebook version."""
    query = sa.text(f"""
        SELECT c.user_id, c.labels, r.labels AS wanted, count(*) AS clips
        FROM ({judgements.counted(which)}) c
        JOIN ({NEWEST}) r ON r.audio_id = c.audio_id AND r.labels IS NOT NULL
        WHERE c.codebook_id = :codebook_id AND c.codebook_version = :codebook_version
        GROUP BY 1, 2, 3
    """)  # noqa: S608 - statements that stand above and in judgements.py
    counts: dict[int, _Counts] = {}
    for row in db.session.execute(query, {"study_id": study.study_id, **_version(version.codebook)}):
        _count(counts.setdefault(row.user_id, _Counts()), row, set(version.undecided))
    names = judgements.pseudonyms(list(counts))
    made = [_of_coder(names.get(user, f"user {user}"), found, version) for user, found in counts.items()]
    return sorted(made, key=lambda coder: coder.name)


def _count(counts: _Counts, row: Any, undecided: set[str]) -> None:
    given, wanted = set(row.labels), set(row.wanted)
    if given & undecided:
        counts.undecided += row.clips
        return
    counts.compared += row.clips
    counts.equal += row.clips * (given == wanted)
    for counter, codes in ((counts.both, given & wanted), (counts.by_coder, given), (counts.by_reference, wanted)):
        for code in codes:
            counter[code] += row.clips


def _of_coder(name: str, counts: _Counts, version: Version) -> OfCoder:
    return OfCoder(
        name=name,
        equal=proportion(counts.equal, counts.compared),
        undecided=counts.undecided,
        labels=tuple(
            (
                label.name,
                _share(counts.both[label.code], counts.by_reference[label.code], NO_REFERENCE),
                _share(counts.both[label.code], counts.by_coder[label.code], NEVER_GIVEN),
            )
            for label in version.codebook.labels
            if not label.undecided
        ),
    )


def _share(part: int, whole: int, otherwise: str) -> Estimate:
    return proportion(part, whole) if whole else undefined(otherwise)


def _add(codebook: Codebook, by: User, audio_id: int, codes: list[str] | None, reason: str) -> None:
    db.session.add(
        Reference(
            audio_id=audio_id,
            codebook_id=codebook.id,
            codebook_version=codebook.version,
            labels=codes,
            reason=reason,
            user_id=by.user_id,
        )
    )
    db.session.flush()


def _version(codebook: Codebook) -> dict[str, str]:
    return {"codebook_id": codebook.id, "codebook_version": codebook.version}
