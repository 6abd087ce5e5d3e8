"""How far a study is: its clips and slots, what was labelled day by day, and each person's part. For leads.

Leads see names here, because they manage people; results of a study have pseudonyms. Minutes heard are shown only if
the study shares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from markupsafe import Markup

from app import plots
from app.models import Assignment, Exposure, Member, Study, User, db

HOUR_MS = 3_600_000
MOST_DAYS = 60  # rows of the table; the plot has as many places

_COUNTS = sa.text("""
    SELECT study_id,
        count(*) FILTER (WHERE state <> 'withdrawn') AS slots,
        count(*) FILTER (WHERE state = 'submitted') AS done,
        count(*) FILTER (WHERE state = 'open' AND claimed_until >= now()) AS in_hand,
        count(*) FILTER (WHERE state = 'open' AND (claimed_until IS NULL OR claimed_until < now())) AS lapsed,
        count(*) FILTER (WHERE state = 'skipped') AS aside
    FROM ra_assignments WHERE CAST(:study_id AS bigint) IS NULL OR study_id = :study_id GROUP BY study_id
""")
_CLIPS = sa.text("""
    SELECT study_id, count(*) AS clips FROM ra_items
    WHERE withdrawn_at IS NULL AND (CAST(:study_id AS bigint) IS NULL OR study_id = :study_id) GROUP BY study_id
""")
_AGREEMENT = sa.text("""
    SELECT count(*) FILTER (WHERE slots > 1) AS shared, count(*) FILTER (WHERE done > 1) AS judged,
        count(*) FILTER (WHERE done > 0) AS begun
    FROM (SELECT count(*) AS slots, count(*) FILTER (WHERE state = 'submitted') AS done
          FROM ra_assignments WHERE study_id = :study_id AND state <> 'withdrawn' GROUP BY item_id) i
""")
_DAYS = sa.text("""
    SELECT (submitted_at AT TIME ZONE 'UTC')::date AS day, count(*) AS labelled FROM ra_assignments
    WHERE study_id = :study_id AND state = 'submitted' GROUP BY 1 ORDER BY 1
""")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    clips: int = 0
    slots: int = 0
    done: int = 0
    in_hand: int = 0
    lapsed: int = 0  # held, but others may take them
    aside: int = 0
    shared: int = 0  # clips that two or more people shall label
    judged: int = 0  # clips that two or more people have labelled
    begun: int = 0  # clips that somebody has labelled


@dataclass(frozen=True, kw_only=True)
class Day:
    day: date
    labelled: int
    so_far: int


@dataclass(frozen=True, kw_only=True)
class Coder:
    user_id: int
    username: str
    labelled: int
    active_ms: int
    last_at: datetime | None
    heard_ms: int | None  # None: the study does not share it


def of_studies() -> dict[int, Numbers]:
    """Return clips and slots of every study that has any, by its number."""
    return {study_id: Numbers(**counts) for study_id, counts in _counts(None).items()}


def numbers(study_id: int) -> Numbers:
    agreement = db.session.execute(_AGREEMENT, {"study_id": study_id}).mappings().one()
    return Numbers(**_counts(study_id).get(study_id, {}), **agreement)


def days(study_id: int) -> list[Day]:
    """Return the days (UTC) from the first label to the last, at most the last `MOST_DAYS`, with slots that were done.

    A label counts on the day of the first label of its slot.
    """
    counts = {row.day: row.labelled for row in db.session.execute(_DAYS, {"study_id": study_id}) if row.day}
    if not counts:
        return []
    found, so_far, day = [], 0, min(counts)
    while day <= max(counts):
        so_far += counts.get(day, 0)
        found.append(Day(day=day, labelled=counts.get(day, 0), so_far=so_far))
        day += timedelta(days=1)
    return found[-MOST_DAYS:]


def plot(found: Sequence[Day]) -> Markup:
    axes = plots.Axes(
        title="Labels so far, by day",
        level="Day (UTC)",
        upright="Labels",
        places=[day.day.toordinal() for day in found],
        names=[f"{day.day:%d.%m.}" for day in found],
    )
    return plots.lines(axes, [plots.Series("Labels so far", [day.so_far for day in found])])


def hours(found: Sequence[Coder]) -> Markup:
    """Return a plot of each person's hours at work, and of the hours heard if the study shares them."""
    axes = plots.Axes(
        title="Hours of each person", level="Person", upright="Hours",
        places=list(range(len(found))), names=[coder.username for coder in found],
    )  # fmt: skip
    series = [plots.Series("At work", [coder.active_ms / HOUR_MS for coder in found])]
    if any(coder.heard_ms is not None for coder in found):
        heard = [None if coder.heard_ms is None else coder.heard_ms / HOUR_MS for coder in found]
        series.append(plots.Series("Heard", heard))
    return plots.bars(axes, series)


def coders(study: Study) -> list[Coder]:
    """Return everybody who has worked on the study, by name."""
    query = (
        sa.select(
            User.user_id,
            User.username,
            sa.func.count().filter(Assignment.state == "submitted").label("labelled"),
            sa.cast(sa.func.sum(Assignment.active_ms), sa.BigInteger).label("active_ms"),
            sa.func.max(Assignment.submitted_at).label("last_at"),
        )
        .join(Assignment, Assignment.user_id == User.user_id)
        .where(Assignment.study_id == study.study_id)
        .group_by(User.user_id)
        .order_by(User.username)
    )
    heard = _heard(study) if study.shares_exposure else {}
    shared = study.shares_exposure
    return [
        Coder(**row, heard_ms=heard.get(row["user_id"], 0) if shared else None)
        for row in db.session.execute(query).mappings()
    ]


def members(study: Study) -> list[str]:
    """Return the names of the members."""
    query = sa.select(User.username).join(Member, Member.user_id == User.user_id)
    return list(db.session.scalars(query.where(Member.study_id == study.study_id).order_by(User.username)))


def _heard(study: Study) -> dict[int, int]:
    query = (
        sa.select(Exposure.user_id, sa.func.sum(Exposure.heard_ms))
        .join(Assignment, Assignment.assignment_id == Exposure.assignment_id)
        .where(Assignment.study_id == study.study_id)
        .group_by(Exposure.user_id)
    )
    return {row[0]: int(row[1]) for row in db.session.execute(query)}


def _counts(study_id: int | None) -> dict[int, dict[str, Any]]:
    values = {"study_id": study_id}
    found: dict[int, dict[str, Any]] = {}
    for statement in (_COUNTS, _CLIPS):
        for row in db.session.execute(statement, values).mappings():
            counts = dict(row)
            found.setdefault(counts.pop("study_id"), {}).update(counts)
    return found
