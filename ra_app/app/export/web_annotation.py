"""W3C Web Annotations of a snapshot: one JSON-LD page with an annotation for each judgement.

Its bodies are the labels (purpose `tagging`) and the note (`commenting`). Its targets are the parts of the clip that
the coder marked, as media fragments (`#t=from,to`), or the whole clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.export import lines

CONTEXT = "http://www.w3.org/ns/anno.jsonld"
EVERY = 1_000


def write(source: Path, target: Path, tell: Callable[[int], None]) -> None:
    begin = f'{{"@context":"{CONTEXT}","id":"urn:x-ra-app:annotations","type":"AnnotationPage","items":['
    lines.write_list(target, begin, _annotations(source, tell), "]}")


def _annotations(source: Path, tell: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    number = 0
    for number, row in enumerate(lines.read(source), 1):
        yield annotation(row)
        if number % EVERY == 0:
            tell(number)
    tell(number)


def annotation(row: dict[str, Any]) -> dict[str, Any]:
    """Return the annotation of one judgement."""
    bodies = [
        {"type": "TextualBody", "purpose": "tagging", "format": "text/plain", "value": code} for code in row["labels"]
    ]
    if row["note"]:
        bodies.append({"type": "TextualBody", "purpose": "commenting", "format": "text/plain", "value": row["note"]})
    clip = f"urn:x-ra-app:clip:{row['clip_id']}"
    parts = [{"id": f"{clip}#t={_seconds(start)},{_seconds(end)}", "type": "Sound"} for start, end in row["spans"]]
    made: dict[str, Any] = {
        "id": f"urn:x-ra-app:judgement:{row['label_id']}",
        "type": "Annotation",
        "motivation": "classifying",
        "created": row["submitted_at"],
        "body": bodies,
        "target": parts or [{"id": clip, "type": "Sound"}],
    }
    if row["coder"] is not None:
        made["creator"] = {"id": f"urn:x-ra-app:coder:{row['coder']}", "type": "Person", "nickname": row["coder"]}
    return made


def _seconds(value: float) -> str:
    """Return the number without an exponent: a media fragment knows none."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
