"""What changed between two versions of a codebook, by label or question and by field, down to words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

Kind = Literal["added", "removed", "changed", "same"]
# Fields in the order in which they are shown, with their names on pages.
OF_CODEBOOK = {"title": "Title", "choice": "Labels for a clip"}
OF_LABEL = {
    "name": "Name",
    "definition": "Definition",
    "include_when": "Use when",
    "exclude_when": "Avoid when",
    "examples": "Examples",
    "policies": "Policies",
    "key": "Key",
    "exclusive": "Stands alone",
    "undecided": "Says that the coder could not decide",
}
OF_QUESTION = {
    "text": "Text",
    "kind": "Answers",
    "options": "Options",
    "when": "Asked after",
    "required": "Must be answered",
}
# What a field says where the content leaves it out.
UNSAID: dict[str, Any] = {"choice": "multi", "undecided": False, "required": True, "when": [], "questions": []}
IN_WORDS = {True: "yes", False: "no", "multi": "one or several", "single": "one"}

MOST_PAIRS = 4_000_000  # words of one text times words of the other; beyond that the texts are shown whole
_WORDS = re.compile(r"(\n|\S+)([^\S\n]*)")  # a word, and the blanks behind it, which are not compared


@dataclass(frozen=True, kw_only=True)
class Part:
    """A run of words that stayed (`same`), or was added or removed."""

    kind: Kind
    text: str


@dataclass(frozen=True, kw_only=True)
class Field:
    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The codebook itself, a label or a question, with the fields that differ."""

    what: Literal["codebook", "label", "question"]
    code: str
    name: str
    kind: Kind
    fields: tuple[Field, ...]


def compare(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[Entry]:
    """Return what differs. Without an old content, all is added. Labels and questions are known by their codes."""
    before: Mapping[str, Any] = old or {"labels": []}
    found = [_entry("codebook", "", "Codebook", before, new, OF_CODEBOOK)] if old else []
    found += _entries("label", before["labels"], new["labels"], OF_LABEL, "name")
    found += _entries("question", before.get("questions", []), new.get("questions", []), OF_QUESTION, "text")
    return [entry for entry in found if entry.kind != "same"]


def _entries(
    what: Literal["label", "question"],
    old: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    title: str,
) -> list[Entry]:
    before, after = ({entry["code"]: entry for entry in entries} for entries in (old, new))
    moved = _moved([code for code in before if code in after], [code for code in after if code in before])
    found = []
    for code, entry in after.items():
        place = (_place(moved[code]),) if code in moved else ()
        found.append(_entry(what, code, entry[title], before.get(code), entry, names, place))
    found += [
        _entry(what, code, entry[title], entry, None, names) for code, entry in before.items() if code not in after
    ]
    return found


def _entry(
    what: Literal["codebook", "label", "question"],
    code: str,
    name: str,
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
    names: Mapping[str, str],
    more: tuple[Field, ...] = (),
) -> Entry:
    differing = []
    for field, title in names.items():
        before, after = _text(field, old), _text(field, new)
        if before != after:
            differing.append(Field(name=title, parts=tuple(words(before, after))))
    fields = (*differing, *more)
    kind: Kind = "added" if old is None else "removed" if new is None else "changed" if fields else "same"
    return Entry(what=what, code=code, name=name or code or "without a name", kind=kind, fields=fields)


def words(old: str, new: str) -> list[Part]:
    """Return both texts as runs of words that stayed, were removed, or were added."""
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    if len(before) * len(after) > MOST_PAIRS:
        return [Part(kind="removed", text=old), Part(kind="added", text=new)]
    parts: list[Part] = []
    runs = SequenceMatcher(a=[word for word, _ in before], b=[word for word, _ in after], autojunk=False)
    for same, a, b, c, d in runs.get_opcodes():
        if same == "equal":
            parts.append(Part(kind="same", text=_joined(after[c:d])))
            continue
        if b > a:
            parts.append(Part(kind="removed", text=_joined(before[a:b])))
        if d > c:
            parts.append(Part(kind="added", text=_joined(after[c:d])))
    return parts


def _joined(found: Iterable[tuple[str, str]]) -> str:
    """The words with at least a blank between two of them, as the last word of a text has none behind it."""
    return "".join(word + (blanks or ("" if word == "\n" else " ")) for word, blanks in found)


def _text(field: str, entry: Mapping[str, Any] | None) -> str:
    """A field as it is read on the page: lists have a line for each entry. An entry that is not there says nothing."""
    if entry is None:
        return ""
    value = entry.get(field, UNSAID.get(field, ""))
    if field == "options":
        return "\n".join(
            " · ".join(filter(None, (option["code"], option["name"], option.get("key")))) for option in value
        )
    if field in {"policies", "when"}:
        value = sorted(value)  # their order means nothing
    if isinstance(value, list):
        return "\n".join(value) if value or field != "when" else "always"
    if isinstance(value, bool) or field in {"choice", "kind"}:
        return IN_WORDS.get(value, str(value))
    return str(value)


def _moved(old: list[str], new: list[str]) -> dict[str, tuple[int, int]]:
    """The places, from 1, of those that stand in another order among the ones that both have."""
    stayed = SequenceMatcher(a=old, b=new, autojunk=False).get_matching_blocks()
    fixed = {code for block in stayed for code in old[block.a : block.a + block.size]}
    return {code: (old.index(code) + 1, new.index(code) + 1) for code in new if code not in fixed}


def _place(places: tuple[int, int]) -> Field:
    return Field(name="Place", parts=tuple(words(str(places[0]), str(places[1]))))
