"""The snapshot as tasks that Label Studio imports: one task per study and clip, one annotation per coder.

Only a coder's newest judgement is in it: Label Studio knows one annotation of a person. `label-studio.xml` is the
labelling setup that the results refer to. Label Studio has no place for a pseudonym but its own accounts, so it stands
in the task's data, in the order of the annotations. The audio's address is a placeholder: replace it by one that Label
Studio can open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from app.export import lines

EVERY = 1_000
AUDIO = "audio/{clip_id}.opus"


def write(source: Path, target: Path, tell: Callable[[int], None]) -> None:
    """Write the tasks, and the labelling setup beside them."""
    codes: set[str] = set()
    lines.write_list(target, "[", _tasks(source, codes, tell), "]")
    target.with_suffix(".xml").write_text(setup(sorted(codes)), encoding="utf-8")


def _tasks(source: Path, codes: set[str], tell: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    for _, group in groupby(_counted(source, tell), key=lambda row: (row["study_id"], row["clip_id"])):
        newest = [row for row in group if row["is_newest"]]
        codes.update(code for row in newest for code in row["labels"])
        if newest:
            yield task(newest)


def _counted(source: Path, tell: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    number = 0
    for number, row in enumerate(lines.read(source), 1):
        yield row
        if number % EVERY == 0:
            tell(number)
    tell(number)


def task(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the task of one clip in one study."""
    first = rows[0]
    data = {name: first[name] for name in ("clip_id", "audio_sha256", "study", "stratum", "inclusion_probability")}
    return {
        "data": {"audio": AUDIO.format(**first), **data, "coders": [row["coder"] for row in rows]},
        "annotations": [_annotation(row) for row in rows],
    }


def _annotation(row: dict[str, Any]) -> dict[str, Any]:
    key = f"judgement-{row['label_id']}"
    result: list[dict[str, Any]] = [
        {"id": key, "from_name": "label", "to_name": "audio", "type": "choices", "value": {"choices": row["labels"]}}
    ]
    for number, (start, end) in enumerate(row["spans"], 1):
        part = {"start": start, "end": end, "channel": 0, "labels": ["Part"]}
        result.append(
            {"id": f"{key}-{number}", "from_name": "part", "to_name": "audio", "type": "labels", "value": part}
        )
    if row["note"]:
        note = {"text": [row["note"]]}
        result.append({"id": f"{key}-note", "from_name": "note", "to_name": "audio", "type": "textarea", "value": note})
    made: dict[str, Any] = {"result": result, "was_cancelled": False, "ground_truth": False,
                            "created_at": row["submitted_at"]}  # fmt: skip
    if row["active_ms"] is not None:
        made["lead_time"] = row["active_ms"] / 1000
    return made


def setup(codes: list[str]) -> str:
    """Return the labelling setup (XML) that the results refer to."""
    choices = "\n".join(f"    <Choice value={quoteattr(code)}/>" for code in codes)
    return (
        '<View>\n  <Labels name="part" toName="audio">\n    <Label value="Part"/>\n  </Labels>\n'
        '  <Audio name="audio" value="$audio"/>\n'
        f'  <Choices name="label" toName="audio" choice="multiple">\n{choices}\n  </Choices>\n'
        '  <TextArea name="note" toName="audio"/>\n</View>\n'
    )
