"""Checks a codebook: parsed TOML of a file, or content in JSON of a form. Each mistake has a place and says what to do.

All mistakes are collected, so that a form can show each beside its field. `place` is the name of the field there:
`labels[2].key`, counted from 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from app.codebooks.codebook import CHOICES, Codebook, Label, Option, Question
from app.errors import CodebookError, Mistake

# Keys that the review page uses: n note, s skip, g codebook, j and k next and previous segment.
RESERVED_KEYS = frozenset("nsgjk")
MAX_LABELS = 20  # more labels do not fit on one screen
MAX_QUESTIONS = 10
MAX_OPTIONS = 20

_CODE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_KEY = re.compile(r"[0-9a-z]")
_POLICY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # as the pipeline writes the ids of its policies

Raw = Mapping[str, Any]


class Reader:
    """Turns parsed TOML or JSON into a Codebook. `source` is the file, or what else the messages should name."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.mistakes: list[Mistake] = []

    def codebook(self, raw: Raw) -> Codebook:
        """Return the codebook.

        Raises
        ------
        CodebookError
            The message names the first mistake; all are in `mistakes`.
        """
        made = self._codebook(raw)
        if self.mistakes:
            first = self.mistakes[0]
            raise CodebookError(f"{self._source}: {first.place}: {first.reason}", self.mistakes)
        return made

    def _codebook(self, raw: Raw) -> Codebook:
        self._only(raw, "", {field.name for field in fields(Codebook)})
        labels = tuple(
            self._label(entry, f"labels[{number}]")
            for number, entry in self._entries(raw, "labels", MAX_LABELS, needed=True)
        )
        questions = tuple(
            self._question(entry, f"questions[{number}]", {label.code for label in labels})
            for number, entry in self._entries(raw, "questions", MAX_QUESTIONS)
        )
        self._unique([(f"labels[{n}].code", label.code) for n, label in enumerate(labels, 1)])
        self._unique([(f"questions[{n}].code", question.code) for n, question in enumerate(questions, 1)])
        self._unique_keys(labels, questions)
        return Codebook(
            id=self._text(raw, "id", ""),
            version=self._text(raw, "version", ""),
            title=self._text(raw, "title", ""),
            labels=labels,
            choice=self._one_of(raw, "choice", "", default="multi"),
            questions=questions,
        )

    def _label(self, raw: Any, place: str) -> Label:
        raw = self._table(raw, place, "[[labels]]")
        self._only(raw, place, {field.name for field in fields(Label)})
        return Label(
            key=self._key(raw, place, needed=True),
            code=self._code(raw, place),
            name=self._text(raw, "name", place),
            definition=self._text(raw, "definition", place),
            exclusive=self._truth(raw, "exclusive", place),
            undecided=self._truth(raw, "undecided", place),
            include_when=self._list(raw, "include_when", place),
            exclude_when=self._list(raw, "exclude_when", place),
            examples=self._list(raw, "examples", place),
            policies=self._policies(raw, place),
        )

    def _question(self, raw: Any, place: str, labels: set[str]) -> Question:
        raw = self._table(raw, place, "[[questions]]")
        self._only(raw, place, {field.name for field in fields(Question)})
        options = tuple(
            self._option(entry, f"{place}.options[{number}]")
            for number, entry in self._entries(raw, "options", MAX_OPTIONS, place=place, needed=True)
        )
        self._unique([(f"{place}.options[{n}].code", option.code) for n, option in enumerate(options, 1)])
        when = self._list(raw, "when", place)
        unknown = next((code for code in when if code not in labels), None)
        if unknown is not None:
            self._say(f"{place}.when", f"{unknown!r} is no label of this codebook; name the codes of labels, or none")
        return Question(
            code=self._code(raw, place),
            text=self._text(raw, "text", place),
            kind=self._one_of(raw, "kind", place),
            options=options,
            when=when,
            required=self._truth(raw, "required", place, default=True),
        )

    def _option(self, raw: Any, place: str) -> Option:
        raw = self._table(raw, place, 'table, for example { code = "women", name = "Women" }')
        self._only(raw, place, {field.name for field in fields(Option)})
        return Option(
            code=self._code(raw, place), name=self._text(raw, "name", place), key=self._key(raw, place, needed=False)
        )

    def _entries(
        self, raw: Raw, name: str, most: int, *, place: str = "", needed: bool = False
    ) -> list[tuple[int, Any]]:
        entries = raw.get(name, [])
        where = f"{place}.{name}" if place else name
        if not isinstance(entries, list):
            self._say(where, f"it must be a list of {name}, each of them a table")
            return []
        if needed and not entries:
            self._say(where, "there must be at least one; add it")
            return []
        if len(entries) > most:
            self._say(where, f"there are {len(entries)} {name}; at most {most} are allowed")
            return []
        return list(enumerate(entries, 1))

    def _table(self, raw: Any, place: str, what: str) -> Raw:
        if isinstance(raw, Mapping):
            return raw
        self._say(place, f"it must be a {what} table" if what.startswith("[") else f"it must be a {what}")
        return {}

    def _key(self, raw: Raw, place: str, *, needed: bool) -> str:
        if not needed and raw.get("key", "") == "":
            return ""
        key = self._text(raw, "key", place)
        if key and (not _KEY.fullmatch(key) or key in RESERVED_KEYS):
            taken = ", ".join(sorted(RESERVED_KEYS))
            self._say(f"{place}.key", f"{key!r} is not valid; use one digit or small letter, but none of {taken}")
        return key

    def _code(self, raw: Raw, place: str) -> str:
        code = self._text(raw, "code", place)
        if code and not _CODE.fullmatch(code):
            self._say(
                f"{place}.code",
                f"{code!r} is not valid; use small letters, digits and underscores, a letter first, at most 32",
            )
        return code

    def _policies(self, raw: Raw, place: str) -> tuple[str, ...]:
        policies = self._list(raw, "policies", place)
        wrong = next((policy for policy in policies if not _POLICY.fullmatch(policy)), None)
        if wrong is not None or len(set(policies)) < len(policies):
            named = f"{wrong!r} is not valid" if wrong is not None else "a policy is named twice"
            self._say(f"{place}.policies", f"{named}; use the ids of policies, for example scams-and-fraud")
        return policies

    def _text(self, raw: Raw, name: str, place: str) -> str:
        value = raw.get(name)
        where = f"{place}.{name}" if place else name
        if value is None and place not in {mistake.place for mistake in self.mistakes}:
            self._say(where, "it is missing")
        elif value is not None and (not isinstance(value, str) or not value.strip() or "\0" in value):
            self._say(where, "it must be a text and not empty")
        return value.strip() if isinstance(value, str) else ""

    def _one_of(self, raw: Raw, name: str, place: str, default: str | None = None) -> str:
        value = raw.get(name, default)
        if value not in CHOICES:
            self._say(f"{place}.{name}" if place else name, f"it must be {' or '.join(CHOICES)}")
        return str(value)

    def _truth(self, raw: Raw, name: str, place: str, *, default: bool = False) -> bool:
        value = raw.get(name, default)
        if not isinstance(value, bool):
            self._say(f"{place}.{name}", "it must be true or false")
        return bool(value)

    def _list(self, raw: Raw, name: str, place: str) -> tuple[str, ...]:
        value = raw.get(name, [])
        texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not texts or not all(item.strip() and "\0" not in item for item in value):
            self._say(f"{place}.{name}", "it must be a list of texts, none of them empty")
            return ()
        return tuple(item.strip() for item in value)

    def _only(self, raw: Raw, place: str, known: set[str]) -> None:
        for name in raw:
            if name not in known:
                where = f"{place}.{name}" if place else name
                self._say(where, f"unknown name; allowed are {', '.join(sorted(known))}")

    def _unique_keys(self, labels: tuple[Label, ...], questions: tuple[Question, ...]) -> None:
        """A key means one thing on the screen, whatever is asked."""
        keys = [(f"labels[{n}].key", label.key) for n, label in enumerate(labels, 1)]
        keys += [
            (f"questions[{n}].options[{m}].key", option.key)
            for n, question in enumerate(questions, 1)
            for m, option in enumerate(question.options, 1)
        ]
        self._unique(keys)

    def _unique(self, values: list[tuple[str, str]]) -> None:
        seen: dict[str, str] = {}
        for place, value in values:
            if value in seen:
                self._say(place, f"{value!r} is already used by {seen[value].rpartition('.')[0]}; choose another one")
            elif value:
                seen[value] = place

    def _say(self, place: str, reason: str) -> None:
        self.mistakes.append(Mistake(place=place, reason=reason))
