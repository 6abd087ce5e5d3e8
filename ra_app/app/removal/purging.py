"""Deletes what was said and done in closed studies, and keeps counts of it in a receipt.

The rule. Of a closed study go: labels, drafts, who heard and did what with its clips, the record of protections,
decisions, declined clips, slots, clips, and who took part. The study itself stays with its settings, and so do answers
of reference, codebooks, the record of leads' acts, and accounts. By age, a study goes when it was closed so many days
ago; labels of an open study never go by age: its numbers would change, and its clips would be offered again. By age
also go older records of who heard and did what without a slot. Records of the last two days stay: the daily limits
count what was heard.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app import acts
from app.models import Study, db
from app.removal import receipts

RECENT = timedelta(days=2)

_SLOTS = "SELECT assignment_id FROM ra_assignments WHERE study_id = ANY(:studies)"
_ITEMS = "SELECT item_id FROM ra_items WHERE study_id = ANY(:studies)"
# Of these studies, or of a clip that is in no other study, or without any slot and older than the age that was given.
_RECORDS = f"""at < :recent AND (assignment_id IN ({_SLOTS})
    OR (assignment_id IS NULL AND audio_id IN (SELECT audio_id FROM ra_items WHERE study_id = ANY(:studies))
        AND audio_id NOT IN (SELECT audio_id FROM ra_items WHERE study_id <> ALL(:studies)))
    OR (at < :before AND (assignment_id IS NULL
        OR assignment_id NOT IN (SELECT assignment_id FROM ra_assignments))))"""  # noqa: S608 - texts of this module
# In an order in which nothing refers to what is gone.
RULE = {
    "ra_drafts": f"assignment_id IN ({_SLOTS})",
    "ra_labels": f"assignment_id IN ({_SLOTS})",
    "ra_exposures": _RECORDS,
    "ra_audit": _RECORDS,
    "ra_wellbeing": "at < :recent AND study_id = ANY(:studies)",
    "ra_decisions": f"item_id IN ({_ITEMS})",
    "ra_declines": f"item_id IN ({_ITEMS})",
    "ra_assignments": "study_id = ANY(:studies)",
    "ra_items": "study_id = ANY(:studies)",
    "ra_study_members": "study_id = ANY(:studies)",
}


class PurgeError(Exception):
    """Says why nothing was deleted."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    subject: str  # in words, for the receipt
    studies: Sequence[int]
    before: datetime | None  # records without a slot go if they are older; None: they stay
    now: datetime

    @property
    def values(self) -> dict[str, Any]:
        before = self.before if self.before is not None else datetime.fromtimestamp(0, tz=self.now.tzinfo)
        return {"studies": list(self.studies), "before": before, "recent": self.now - RECENT}


def begin() -> None:
    """Begin a transaction that sees one moment: what is counted is what goes. Call it before anything else is read."""
    db.session.rollback()
    db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    db.session.execute(sa.text("SET LOCAL statement_timeout = 0"))


def of_study(name: str) -> Scope:
    """
    Raises
    ------
    PurgeError
        There is no such study, or it is not closed.
    """
    study = db.session.scalar(sa.select(Study).where(Study.name == name))
    if study is None:
        raise PurgeError(f"There is no study named “{name}”. `flask studies list` shows all studies.")
    if study.state != "closed":
        raise PurgeError(f"The study “{name}” is {study.state}. Close it first: only a closed study is deleted.")
    return Scope(subject=f"the study “{name}”", studies=[study.study_id], before=None, now=_now())


def older_than(days: int) -> Scope:
    now = _now()
    before = now - timedelta(days=days)
    closed = sa.select(Study.study_id).where(Study.state == "closed", Study.closed_at < before)
    studies = list(db.session.scalars(closed.order_by(Study.study_id)))
    return Scope(subject=f"studies closed more than {days} days ago", studies=studies, before=before, now=now)


def counted(scope: Scope) -> dict[str, Any]:
    """Return what would go: counts by table, and what stays of the labels."""
    counts = {table: _scalar(f"SELECT count(*) FROM {table} WHERE {where}", scope) for table, where in RULE.items()}  # noqa: S608
    return {
        "studies": list(scope.studies),
        "before": scope.before.isoformat() if scope.before is not None else None,
        "counts": counts,
        **_of_labels(scope),
        "exports_that_still_have_files": _exports(scope),
    }


def purge(scope: Scope) -> dict[str, Any]:
    """Delete what `counted` counts, write the receipt, and return it. Nothing commits.

    Raises
    ------
    PurgeError
        Something else was found than was counted. Roll back.
    """
    content = {**counted(scope), "by": getpass.getuser()}
    receipt = receipts.open_receipt("purge", by=None, subject=scope.subject, content=content)
    for table, where in RULE.items():
        done = db.session.execute(sa.text(f"DELETE FROM {table} WHERE {where}"), scope.values)  # noqa: S608
        if done.rowcount != content["counts"][table]:  # type: ignore[attr-defined]
            raise PurgeError(f"{table} has changed while its rows were counted. Nothing is deleted; try again.")
    acts.note(None, "purged", subject=scope.subject, receipt=receipt.receipt_id)
    db.session.flush()
    return {"receipt": receipt.receipt_id, "at": receipt.at.isoformat(), "subject": scope.subject, **content}


def _of_labels(scope: Scope) -> Mapping[str, Any]:
    """Return the counts that stay, the first and last number of the labels, and a hash by which a copy can be known."""
    given = f"SELECT * FROM ra_labels WHERE assignment_id IN ({_SLOTS})"  # noqa: S608
    per_label = sa.text(
        "SELECT codebook_id, codebook_version, code, count(*) FROM "  # noqa: S608
        f"({given}) l, jsonb_array_elements_text(l.labels) code GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    first, last, digest = db.session.execute(
        sa.text(
            "SELECT min(label_id), max(label_id), "  # noqa: S608
            "encode(sha256(convert_to(coalesce(string_agg(md5(l::text), '' ORDER BY label_id), ''), 'UTF8')), 'hex') "
            f"FROM ({given}) l"
        ),
        scope.values,
    ).one()
    coders = "SELECT count(DISTINCT user_id) FROM ra_assignments WHERE study_id = ANY(:studies) AND state = 'submitted'"
    return {
        "coders": _scalar(coders, scope),
        "labels_given": [list(row) for row in db.session.execute(per_label, scope.values)],
        "label_ids": [first, last],
        "labels_sha256": digest,
    }


def _exports(scope: Scope) -> list[str]:
    query = sa.text(
        "SELECT name FROM ra_exports WHERE study_ids && CAST(:studies AS bigint[]) AND state = 'done' "
        "ORDER BY export_id"
    )
    return list(db.session.scalars(query, {"studies": list(scope.studies)}))


def _scalar(query: str, scope: Scope) -> int:
    return int(db.session.execute(sa.text(query), scope.values).scalar_one())


def _now() -> datetime:
    moment: datetime = db.session.execute(sa.select(sa.func.now())).scalar_one()
    return moment
