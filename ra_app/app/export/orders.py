"""What leads do with exports: order one, let it be built again, remove its files. Acts are noted; nothing commits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app import acts
from app.export.formats import FORMATS
from app.export.jobs import folder_of
from app.models import Export, Study, User, db

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
ALWAYS = "jsonl"  # the file that the others are made of


@dataclass
class Order:
    """The form of a new export, as it was sent."""

    name: str = ""
    studies: list[int] = field(default_factory=list)
    formats: list[str] = field(default_factory=lambda: ["csv"])
    text: bool = False
    names: bool = False


def problems(order: Order) -> dict[str, str]:
    """Return what is wrong with the form, by field."""
    found = {}
    if not NAME.fullmatch(order.name):
        found["name"] = "Use 1 to 60 letters, digits, - and _, and begin with a letter or a digit."
    elif db.session.scalar(sa.select(Export.export_id).where(Export.name == order.name)) is not None:
        found["name"] = "There is an export with this name already. A name is never used twice."
    if not order.studies:
        found["studies"] = "Choose one study or more."
    elif set(order.studies) - set(db.session.scalars(sa.select(Study.study_id))):
        found["studies"] = "One of these studies does not exist any more."
    if set(order.formats) - FORMATS.keys():
        found["formats"] = "One of these formats does not exist."
    return found


def place(order: Order, by: User) -> Export:
    """Add an export that waits for its worker. `problems` has been asked."""
    chosen = {ALWAYS, *order.formats}
    export = Export(
        name=order.name,
        study_ids=sorted(set(order.studies)),
        formats=[name for name in FORMATS if name in chosen],
        bounds={"text": order.text, "names": order.names},
        made_by=by.user_id,
    )
    db.session.add(export)
    acts.note(by, "export-ordered", subject=order.name, studies=export.study_ids, formats=export.formats,
              text=order.text, names=order.names)  # fmt: skip
    return export


def again(export: Export, by: User) -> bool:
    """Let the same snapshot be built again; False if it is waiting or being built."""
    if export.state in {"waiting", "running"}:
        return False
    export.state = "waiting"
    export.bounds = {key: value for key, value in export.bounds.items() if key != "attempts"}
    acts.note(by, "export-ordered", subject=export.name, again=True)
    return True


def remove(export: Export, by: User) -> None:
    """Take the files away; what was exported, and the hashes, stay on the page. The worker deletes the folder."""
    export.state = "removed"
    export.removed_at = sa.func.now()
    export.error = None
    acts.note(by, "export-removed", subject=export.name)


def path_of(export: Export, file: str, root: Path) -> Path | None:
    """Return where a file of an export lies; None if the export has no such file, or it is not there."""
    if export.state != "done" or file not in {described["name"] for described in export.files}:
        return None
    path = root / folder_of(export.export_id, export.name) / file
    return path if path.is_file() else None


def newest(limit: int, offset: int = 0) -> Sequence[tuple[Export, str | None]]:
    """Return exports and who ordered them, the newest first."""
    query = sa.select(Export, User.username).outerjoin(User, User.user_id == Export.made_by)
    return [(export, name) for export, name in
            db.session.execute(query.order_by(Export.export_id.desc()).limit(limit).offset(offset))]  # fmt: skip


def studies() -> list[tuple[int, str, int]]:
    """Return number and name of each study that can be exported, and how many judgements it has."""
    query = sa.text(
        "SELECT s.study_id, s.name, count(a.assignment_id) FROM ra_studies s "
        "LEFT JOIN ra_assignments a ON a.study_id = s.study_id AND a.state = 'submitted' "
        "GROUP BY s.study_id ORDER BY s.study_id DESC"
    )
    return [tuple(row) for row in db.session.execute(query)]


def names_of(export: Export) -> list[str]:
    """Return the names of its studies."""
    return list(db.session.scalars(
        sa.select(Study.name).where(Study.study_id.in_(export.study_ids)).order_by(Study.study_id)
    ))  # fmt: skip


def done_share(export: Export) -> float:
    """Return how much is done, from 0 to 1."""
    total: Any = export.rows_total
    return min(1.0, export.rows_done / total) if total else 0.0
