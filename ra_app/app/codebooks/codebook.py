"""The codebook: the labels that a reviewer may give, what each label means, and the questions that follow a label.

A codebook is a TOML file, or content in JSON that a lead has edited in the app. `app/codebooks/reader.py` checks both,
and `app/codebooks/published.py` keeps the content of each version in the database.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import CodebookError

CHOICES = ("multi", "single")
# Left out of the content where they say nothing: the hash of a codebook that was published before they came stays.
_LATER: dict[str, Any] = {"choice": "multi", "questions": []}
_LATER_OF_LABEL: dict[str, Any] = {"undecided": False}
_UNSAID_OF_QUESTION: dict[str, Any] = {"when": [], "required": True}
_UNSAID_OF_OPTION: dict[str, Any] = {"key": ""}


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
class Option:
    """One of the answers to a question."""

    code: str
    name: str
    key: str = ""  # empty: it has none, and is reached with Tab and the arrow keys


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a reviewer is asked beside the label; with `when`, only after one of these labels was chosen."""

    code: str
    text: str
    kind: str  # of CHOICES: how many options an answer may have
    options: tuple[Option, ...]
    when: tuple[str, ...] = ()  # codes of labels; empty: always
    required: bool = True

    def is_asked(self, codes: Collection[str]) -> bool:
        """Whether it is asked of somebody who has chosen these labels."""
        return not self.when or not set(self.when).isdisjoint(codes)


@dataclass(frozen=True, kw_only=True)
class Codebook:
    id: str
    version: str
    title: str
    labels: tuple[Label, ...]
    choice: str = "multi"  # of CHOICES: how many labels a clip may get
    questions: tuple[Question, ...] = ()

    def content(self) -> dict[str, Any]:
        """Return all that the file says, as JSON."""
        parsed: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for label in parsed["labels"]:
            _leave_out(label, _LATER_OF_LABEL)
        for question in parsed["questions"]:
            _leave_out(question, _UNSAID_OF_QUESTION)
            for option in question["options"]:
                _leave_out(option, _UNSAID_OF_OPTION)
        _leave_out(parsed, _LATER)
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
        if self.choice == "single" and len(labels) > 1:
            return "This codebook takes one label for a clip. Choose one."
        exclusive = next((label for label in labels if label.exclusive), None)
        if exclusive is not None and len(labels) > 1:
            return f"“{exclusive.name}” cannot be combined with other labels. Remove it, or remove the others."
        return None

    def asked(self, codes: Collection[str]) -> list[Question]:
        """Return the questions that are asked of somebody who has chosen these labels, in order."""
        return [question for question in self.questions if question.is_asked(codes)]

    def answers_problem(self, codes: Collection[str], answers: Mapping[str, Sequence[str]]) -> str | None:
        """Return a sentence that says why these answers are not valid, or None.

        Answers to questions that these labels do not ask are left out of account.
        """
        for question in self.asked(codes):
            chosen = answers.get(question.code, ())
            if set(chosen) - {option.code for option in question.options}:
                return f"One of the answers to “{question.text}” is not in the codebook. Answer it again."
            if question.required and not chosen:
                return f"Answer “{question.text}” before you submit."
            if question.kind == "single" and len(chosen) > 1:
                return f"“{question.text}” takes one answer. Choose one."
        return None

    def answers_to_store(self, codes: Collection[str], answers: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return the answers to the questions that these labels ask, in the order of the codebook."""
        kept = {}
        for question in self.asked(codes):
            chosen = answers.get(question.code, ())
            if chosen:
                kept[question.code] = [option.code for option in question.options if option.code in chosen]
        return kept

    def answers_in_words(self, answers: Mapping[str, Collection[str]]) -> list[str]:
        """Return a line for each of these answers: the question and the names of the options."""
        lines = []
        for question in self.questions:
            names = [option.name for option in question.options if option.code in answers.get(question.code, ())]
            if names:
                lines.append(f"{question.text} {', '.join(names)}")
        return lines


def load_codebook(path: Path) -> Codebook:
    """Read and check a codebook file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CodebookError(f"{path}: cannot read the codebook ({error.strerror}); set CODEBOOK_PATH") from error
    except UnicodeDecodeError as error:
        raise CodebookError(f"{path}: not a TOML file: {error}") from error
    return of_toml(text, str(path))


def of_toml(text: str, source: str) -> Codebook:
    """Return the codebook that this TOML says. Errors name `source`.

    Raises
    ------
    CodebookError
        It is no TOML, or no valid codebook.
    """
    from app.codebooks.reader import Reader  # it makes the classes of this module

    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CodebookError(f"{source}: not a TOML file: {error}") from error
    return Reader(source).codebook(raw)


def of_content(content: Mapping[str, Any], source: str = "the table ra_codebooks") -> Codebook:
    """Return the codebook with this content, as `Codebook.content` gave it. Errors as of `of_toml`."""
    from app.codebooks.reader import Reader

    return Reader(source).codebook(content)


def _leave_out(entry: dict[str, Any], unsaid: Mapping[str, Any]) -> None:
    for name, value in unsaid.items():
        if entry[name] == value:
            del entry[name]
