"""A codebook as it is being edited: the form of the editor, what its buttons do, and what is still wrong.

A draft has the shape of `Codebook.content`, with every name there and no version. It may be incomplete: it is checked
whenever it is shown, and must be right only when it is published. The names of the form's fields are the places of
`app/codebooks/reader.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from werkzeug.datastructures import MultiDict

from app.codebooks.codebook import of_content
from app.codebooks.reader import MAX_LABELS, MAX_QUESTIONS
from app.errors import CodebookError, Mistake

MOST = {"labels": MAX_LABELS, "questions": MAX_QUESTIONS}
TEXTS = {"labels": ("key", "code", "name", "definition"), "questions": ("code", "text")}
SWITCHES = {"labels": ("exclusive", "undecided"), "questions": ("required",)}
LISTS = ("include_when", "exclude_when", "examples")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NUMBERED = re.compile(r"(labels|questions)\[([0-9]{1,3})\]\.code")
_OPTION = re.compile(r"(questions\[[0-9]+\]\.options)\[([0-9]+)\]\.?(\w*)")

Form = MultiDict[str, str]
Content = dict[str, Any]


def blank(codebook_id: str, title: str) -> Content:
    """Return the draft of a new codebook, with one label to fill in."""
    return {"id": codebook_id, "title": title, "choice": "multi", "labels": [new_entry("labels")], "questions": []}


def new_entry(kind: str) -> Content:
    """Return a label or a question in which nothing is filled in; `kind` is the name of its list."""
    if kind == "labels":
        texts: Content = dict.fromkeys(TEXTS[kind], "")
        return {**texts, "exclusive": False, "undecided": False, **{name: [] for name in (*LISTS, "policies")}}
    return {"code": "", "text": "", "kind": "single", "options": [], "when": [], "required": True}


def of_published(content: Mapping[str, Any]) -> Content:
    """Return a draft that says what this content says."""
    return {
        "id": content["id"],
        "title": content["title"],
        "choice": content.get("choice", "multi"),
        "labels": [{**new_entry("labels"), **label} for label in content["labels"]],
        "questions": [{**new_entry("questions"), **question} for question in content.get("questions", [])],
    }


def of_form(form: Form, codebook_id: str) -> Content:
    """Return what was typed."""
    return {
        "id": codebook_id,
        "title": _line(form.get("title", "")),
        "choice": "single" if form.get("choice") == "single" else "multi",
        "labels": [_label(form, place) for place in _places(form, "labels")],
        "questions": [_question(form, place) for place in _places(form, "questions")],
    }


def press(content: Content, act: str) -> tuple[Content, str]:
    """Return the content after a button, and the place that the page should show then.

    Buttons say `add labels`, or `remove`, `up` or `down` with a list and a number, for example `up questions 2`.
    Another one changes nothing.
    """
    verb, kind, number = [*act.split(" "), "", "", ""][:3]
    if kind not in MOST:
        return content, ""
    entries, at = list(content[kind]), int(number) - 1 if number.isdecimal() else -1
    if verb == "add" and len(entries) < MOST[kind]:
        entries.append(new_entry(kind))
        at = len(entries) - 1
    elif not 0 <= at < len(entries):
        return content, ""
    elif verb == "remove":
        entries.pop(at)
        at = min(at, len(entries) - 1)
    elif verb in {"up", "down"}:
        to = min(max(at + (1 if verb == "down" else -1), 0), len(entries) - 1)
        entries.insert(to, entries.pop(at))
        at = to
    return {**content, kind: entries}, f"{kind}-{at + 1}" if at >= 0 else kind


def mistakes(content: Mapping[str, Any]) -> tuple[Mistake, ...]:
    """Return what must be mended before the draft can be published. The version is chosen then."""
    try:
        of_content({**content, "version": "draft"})
    except CodebookError as error:
        return error.mistakes
    return ()


def beside(found: Iterable[Mistake]) -> dict[str, list[str]]:
    """Return the sentences that stand beside each field of the form."""
    sentences: dict[str, list[str]] = {}
    for mistake in found:
        option = _OPTION.fullmatch(mistake.place)
        place = option[1] if option else mistake.place
        before = f"Line {option[2]}, {option[3] or 'all'}: " if option else ""
        said = f"{before}{mistake.reason}."
        sentences.setdefault(place, []).append(said[0].upper() + said[1:])
    return sentences


def option_line(option: Mapping[str, str]) -> str:
    """Return an option as its line in the form: code | name, or code | name | key."""
    parts = [option["code"], option["name"]]
    if option.get("key") or "|" in option["name"]:
        parts.append(option.get("key", ""))
    return " | ".join(parts).rstrip()


def _label(form: Form, place: str) -> Content:
    chosen = [_line(policy) for policy in form.getlist(f"{place}.policies")]
    return {
        **_common(form, place, "labels"),
        **{name: _lines(form.get(f"{place}.{name}", "")) for name in LISTS},
        "policies": list(dict.fromkeys([*chosen, *_lines(form.get(f"{place}.other_policies", ""))])),
    }


def _question(form: Form, place: str) -> Content:
    return {
        **_common(form, place, "questions"),
        "kind": "multi" if form.get(f"{place}.kind") == "multi" else "single",
        "options": [_option(line) for line in _lines(form.get(f"{place}.options", ""))],
        "when": [_line(code) for code in form.getlist(f"{place}.when")],
    }


def _common(form: Form, place: str, kind: str) -> Content:
    texts = {name: _text(form.get(f"{place}.{name}", "")) for name in TEXTS[kind]}
    return {**texts, **{name: f"{place}.{name}" in form for name in SWITCHES[kind]}}


def _option(line: str) -> dict[str, str]:
    parts = [part.strip() for part in line.split("|")]
    if len(parts) == 1:
        return {"code": parts[0], "name": "", "key": ""}
    if len(parts) == 2:
        return {"code": parts[0], "name": parts[1], "key": ""}
    return {"code": parts[0], "name": "|".join(line.split("|")[1:-1]).strip(), "key": parts[-1]}


def _places(form: Form, kind: str) -> Sequence[str]:
    numbers = {int(found[2]) for name in form if (found := _NUMBERED.fullmatch(name)) and found[1] == kind}
    return [f"{kind}[{number}]" for number in sorted(numbers)]


def _text(text: str) -> str:
    return _CONTROL.sub("", text.replace("\r\n", "\n")).strip()


def _line(text: str) -> str:
    return " ".join(_text(text).split())


def _lines(text: str) -> list[str]:
    return [line.strip() for line in _text(text).split("\n") if line.strip()]
