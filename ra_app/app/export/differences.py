"""Says what two canonical files of the same bounds do not have in common: what has changed in the database since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.export import lines

NAMED = 10  # clips that are named; of the rest only the number is said


def said(old: Path, new: Path) -> str:
    """Return what differs, as a sentence or a few. Both files have their rows in the same order."""
    gone, added, changed, columns = set[int](), set[int](), set[int](), dict[str, None]()
    for before, after in _pairs(old, new):
        if after is None and before is not None:
            gone.add(before["clip_id"])
        elif before is None and after is not None:
            added.add(after["clip_id"])
        elif before is not None and after is not None and before != after:
            changed.add(after["clip_id"])
            columns |= dict.fromkeys(
                name for name in (*before, *after) if before.get(name, "no column") != after.get(name, "no column")
            )
    parts = []
    if changed:
        parts.append(f"Other values ({', '.join(columns)}) of {_clips(changed)}.")
    if gone:
        parts.append(f"Judgements are gone of {_clips(gone)}.")
    if added:
        parts.append(f"Judgements are new of {_clips(added)}.")
    return " ".join(parts) or "The rows are the same; they are written in another way."


def _clips(clips: set[int]) -> str:
    listed = ", ".join(str(clip) for clip in sorted(clips)[:NAMED])
    rest = f" and {len(clips) - NAMED} more" if len(clips) > NAMED else ""
    return f"clip {listed}" if len(clips) == 1 else f"{len(clips)} clips: {listed}{rest}"


def _pairs(old: Path, new: Path) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Return the rows of both files side by side; None where one of them does not have the judgement."""
    left, right = lines.read(old), lines.read(new)
    before, after = next(left, None), next(right, None)
    while before is not None or after is not None:
        if after is None or (before is not None and _place(before) < _place(after)):
            yield before, None
            before = next(left, None)
        elif before is None or _place(after) < _place(before):
            yield None, after
            after = next(right, None)
        else:
            yield before, after
            before, after = next(left, None), next(right, None)


def _place(row: dict[str, Any]) -> tuple[int, ...]:
    return row["study_id"], row["clip_id"], row["coder_number"], row["label_id"]
