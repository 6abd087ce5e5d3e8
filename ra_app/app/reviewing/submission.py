"""The label form as the browser sends it, checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from werkzeug.datastructures import MultiDict

from app import intervals
from app.codebooks.codebook import Codebook
from app.models import CONFIDENCES, NOTE_LENGTH, LabelRow

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # Postgres refuses NUL; the others make no sense in a note
_NUMBER = re.compile(r"[0-9]{1,18}")
MOST_SPANS = 50
ANSWER = "answer."  # before the code of a question: the name of its field


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The content of a label form. If the form is not valid, `problem` is the sentence to show to the reviewer."""

    submission_key: UUID = field(default_factory=uuid4)
    labels: tuple[str, ...] = ()
    answers: dict[str, tuple[str, ...]] = field(default_factory=dict)  # also those that these labels do not ask for
    confidence: int | None = None
    note: str = ""
    spans: tuple[tuple[float, float], ...] = ()  # the marked parts of the clip: from, to in seconds
    base: int | None = None  # the label that the page showed as stored; None: there was none yet
    transcript_id: int | None = None  # as shown, not checked yet
    classification_ids: tuple[int, ...] = ()  # as shown, not checked yet
    problem: str | None = None


def sent_answers(form: MultiDict[str, str], codebook: Codebook) -> dict[str, tuple[str, ...]]:
    """Return the answers of a form to the codebook's questions; they are not checked yet."""
    sent = {question.code: form.getlist(ANSWER + question.code) for question in codebook.questions}
    return {code: tuple(dict.fromkeys(chosen)) for code, chosen in sent.items()}


def read_submission(form: MultiDict[str, str], codes: list[str], codebook: Codebook) -> Submission:
    """Check a form. `codes` are the label codes that the browser sent; they are not checked yet."""
    known = tuple(label.code for label in codebook.labels if label.code in codes)
    note = cleaned(form.get("note", ""))
    confidence = form.get("confidence", "")
    spans = intervals.read(form.get("spans") or "[]", MOST_SPANS)
    answers = sent_answers(form, codebook)
    problem = codebook.problem(dict.fromkeys(codes)) or codebook.answers_problem(codes, answers)
    if form.get("codebook_version") != codebook.version:
        problem = "The codebook has changed since you opened this clip. Check your choice and submit again."
    elif len(note) > NOTE_LENGTH:
        problem = f"The note has {len(note)} characters. Shorten it to {NOTE_LENGTH} or fewer."
    elif confidence and confidence not in {str(value) for value in CONFIDENCES}:
        problem = "Choose one of the three confidences: low, medium or high."
    elif spans is None:
        problem = f"The marked parts could not be read. Mark them again, {MOST_SPANS} or fewer."
    try:
        key = UUID(form.get("submission_key", ""))
    except ValueError:
        key, problem = uuid4(), problem or "The form was incomplete. Submit it again."
    return Submission(
        submission_key=key,
        labels=known,
        answers={code: chosen for code, chosen in answers.items() if chosen},
        confidence=int(confidence) if confidence in {"1", "2", "3"} else None,
        note=note,
        spans=_pairs(spans or ()),
        base=_number(form.get("base_label", "")),
        transcript_id=_number(form.get("transcript_id", "")),
        classification_ids=tuple(int(n) for n in _NUMBER.findall(form.get("classification_ids", "")[:1000])),
        problem=problem,
    )


def cleaned(text: str) -> str:
    """Return what was typed without control characters and without blanks around it."""
    return _CONTROL.sub("", text.replace("\r\n", "\n")).strip()


def of_label(label: LabelRow | None) -> Submission:
    """Return a new submission with the content of a stored label, which it would change."""
    if label is None:
        return Submission()
    return Submission(
        labels=tuple(label.labels),
        answers=answers_of(label.answers),
        confidence=label.confidence,
        note=label.note,
        spans=_pairs(label.spans),
        base=label.label_id,
    )


def answers_of(stored: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Return answers as the tables have them."""
    return {code: tuple(chosen) for code, chosen in stored.items()}


def _pairs(spans: Iterable[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((start, end) for start, end in spans)


def slot_named(form: Mapping[str, str]) -> int | None:
    """Return the slot whose page sent this form; the page of the release before does not say it."""
    return _number(form.get("slot", ""))


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
