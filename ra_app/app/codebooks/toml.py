"""Writes a codebook as the TOML file that `load_codebook` reads back to the same content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from app.codebooks.codebook import Codebook

HEAD = "# A version of a codebook, as the RA app has it. Whoever edits it gives it a new version."
LISTS = ("include_when", "exclude_when", "examples")


def to_toml(codebook: Codebook) -> str:
    content = codebook.content()
    lines = [HEAD, "", *_pairs(content, ("id", "version", "title", "choice"))]
    for label in content["labels"]:
        lines += ["", "[[labels]]"]
        lines += _pairs(label, ("key", "code", "name", "policies", "exclusive", "undecided", "definition"))
        for name in LISTS:
            lines += _list(name, map(_value, label[name]))
    for question in content.get("questions", ()):
        lines += ["", "[[questions]]", *_pairs(question, ("code", "text", "kind", "when", "required"))]
        lines += _list("options", map(_option, question["options"]))
    return "\n".join(lines) + "\n"


def _pairs(entry: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """One line for each of these names that the entry has. An empty list and a switch that is off say nothing."""
    said = [name for name in names if name in entry and (entry[name] not in (False, []) or name == "required")]
    return [f"{name} = {_value(entry[name])}" for name in said]


def _list(name: str, values: Iterable[str]) -> list[str]:
    entries = [f"    {value}," for value in values]
    return [f"{name} = [", *entries, "]"] if entries else []


def _option(option: Mapping[str, str]) -> str:
    return "{ " + ", ".join(_pairs(option, ("code", "name", "key"))) + " }"


def _value(value: str | bool | list[str]) -> str:
    """A TOML value. JSON's strings, lists and truth values are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
