"""The codebook: the labels that a reviewer may give, and what each label means.

It is one TOML file. The app reads it at its start. If the file has a mistake, the app does not start, and the message
names the file, the entry and the reason. `app/published.py` keeps the content of each version in the database.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from app.errors import CodebookError

# Keys that the review page uses: n note, s skip, g codebook, j and k next and previous segment.
RESERVED_KEYS = frozenset("nsgjk")
MAX_LABELS = 20  # more labels do not fit on one screen
# Left out of the content where they say nothing: the hash of a codebook that was published before they came stays.
_LATER = {"undecided": False}

_CODE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_KEY = re.compile(r"[0-9a-z]")
_POLICY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # as the pipeline writes the ids of its policies


@dataclass(frozen=True, kw_only=True)
class Label:
    key: str
    code: str
    name: str
    definition: str
    exclusive: bool = False
    undecided: bool = False  # says that the coder could not decide: counts as no judgement
    include_when: tuple[str, ...] = ()
    exclude_when: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()  # ids of the pipeline's policies that this label is the answer to


@dataclass(frozen=True, kw_only=True)
class Codebook:
    id: str
    version: str
    title: str
    labels: tuple[Label, ...]

    def content(self) -> dict[str, Any]:
        """Return all that the file says, as JSON."""
        parsed: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for label in parsed["labels"]:
            for name, unsaid in _LATER.items():
                if label[name] == unsaid:
                    del label[name]
        return parsed

    def sha256(self) -> str:
        """Return the hash of the canonical content: JSON with sorted names, no blanks, in UTF-8.

        Comments and the layout of the file do not count.
        """
        canonical = json.dumps(self.content(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def label(self, code: str) -> Label | None:
        return next((label for label in self.labels if label.code == code), None)

    def problem(self, codes: Iterable[str]) -> str | None:
        """Return a sentence that says why this choice of labels is not valid, or None if it is valid."""
        chosen = [self.label(code) for code in codes]
        if not chosen:
            return "Choose at least one label before you submit."
        labels = [label for label in chosen if label is not None]
        if len(labels) < len(chosen):
            return "One of the labels is not in the codebook. Choose again."
        exclusive = next((label for label in labels if label.exclusive), None)
        if exclusive is not None and len(labels) > 1:
            return f"“{exclusive.name}” cannot be combined with other labels. Remove it, or remove the others."
        return None


def load_codebook(path: Path) -> Codebook:
    """Read and check a codebook file."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CodebookError(f"{path}: cannot read the codebook ({error.strerror}); set CODEBOOK_PATH") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CodebookError(f"{path}: not a TOML file: {error}") from error
    return _Reader(path).codebook(raw)


def of_content(content: Mapping[str, Any]) -> Codebook:
    """Return the codebook with this content, as `Codebook.content` gave it."""
    return _Reader(Path("the table ra_codebooks")).codebook(content)


class _Reader:
    """Turns parsed TOML into a Codebook. Every error names the file and the entry."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def codebook(self, raw: Mapping[str, Any]) -> Codebook:
        self._only(raw, "", {"id", "version", "title", "labels"})
        entries = raw.get("labels")
        if not isinstance(entries, list) or not entries:
            raise self._error("labels", "the codebook needs at least one [[labels]] table")
        if len(entries) > MAX_LABELS:
            raise self._error("labels", f"there are {len(entries)} labels; at most {MAX_LABELS} are allowed")
        labels = tuple(self._label(entry, f"labels[{number}]") for number, entry in enumerate(entries, 1))
        self._unique(labels, "key")
        self._unique(labels, "code")
        return Codebook(
            id=self._text(raw, "id", ""),
            version=self._text(raw, "version", ""),
            title=self._text(raw, "title", ""),
            labels=labels,
        )

    def _label(self, raw: Any, place: str) -> Label:
        if not isinstance(raw, Mapping):
            raise self._error(place, "it must be a [[labels]] table")
        self._only(raw, place, {field.name for field in fields(Label)})
        key, code = self._text(raw, "key", place), self._text(raw, "code", place)
        if not _KEY.fullmatch(key) or key in RESERVED_KEYS:
            taken = ", ".join(sorted(RESERVED_KEYS))
            raise self._error(
                f"{place}.key", f"{key!r} is not valid; use one digit or small letter, but none of {taken}"
            )
        if not _CODE.fullmatch(code):
            raise self._error(f"{place}.code", f"{code!r} is not valid; use small letters, digits and underscores")
        policies = self._list(raw, "policies", place)
        wrong = next((policy for policy in policies if not _POLICY.fullmatch(policy)), None)
        if wrong is not None or len(set(policies)) < len(policies):
            named = f"{wrong!r} is not valid" if wrong is not None else "a policy is named twice"
            raise self._error(f"{place}.policies", f"{named}; use the ids of policies, for example scams-and-fraud")
        return Label(
            key=key,
            code=code,
            name=self._text(raw, "name", place),
            definition=self._text(raw, "definition", place),
            exclusive=self._truth(raw, "exclusive", place),
            undecided=self._truth(raw, "undecided", place),
            include_when=self._list(raw, "include_when", place),
            exclude_when=self._list(raw, "exclude_when", place),
            examples=self._list(raw, "examples", place),
            policies=policies,
        )

    def _text(self, raw: Mapping[str, Any], name: str, place: str) -> str:
        value = raw.get(name)
        where = f"{place}.{name}" if place else name
        if value is None:
            raise self._error(where, "it is missing")
        if not isinstance(value, str) or not value.strip():
            raise self._error(where, "it must be a text and not empty")
        return value.strip()

    def _truth(self, raw: Mapping[str, Any], name: str, place: str) -> bool:
        value = raw.get(name, False)
        if not isinstance(value, bool):
            raise self._error(f"{place}.{name}", "it must be true or false")
        return value

    def _list(self, raw: Mapping[str, Any], name: str, place: str) -> tuple[str, ...]:
        value = raw.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise self._error(f"{place}.{name}", "it must be a list of texts, none of them empty")
        return tuple(item.strip() for item in value)

    def _only(self, raw: Mapping[str, Any], place: str, known: set[str]) -> None:
        for name in raw:
            if name not in known:
                where = f"{place}.{name}" if place else name
                raise self._error(where, f"unknown name; allowed are {', '.join(sorted(known))}")

    def _unique(self, labels: tuple[Label, ...], name: str) -> None:
        seen: dict[str, int] = {}
        for number, label in enumerate(labels, 1):
            value = getattr(label, name)
            if value in seen:
                raise self._error(f"labels[{number}].{name}", f"{value!r} is already used by labels[{seen[value]}]")
            seen[value] = number

    def _error(self, place: str, reason: str) -> CodebookError:
        return CodebookError(f"{self._path}: {place}: {reason}")
