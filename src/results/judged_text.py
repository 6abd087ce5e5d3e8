"""Which text of a transcript is judged, if any.

A moderation model knows some languages (JUDGED_LANGUAGES). Speech in another one is recorded and not judged, or its
translation into English is judged (OTHER_LANGUAGES), and the verdict says so. `wanted.py` has the same rule in SQL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal, Protocol

from results.values import storable

Judged = Literal["transcript", "translation"]
NotJudged = Literal["language"]  # why speech has no verdict
OtherLanguages = Literal["record", "translate"]


class Spoken(Protocol):
    """What is asked of a transcript: a new one, or a row of the table."""

    @property
    def text(self) -> str: ...

    @property
    def language(self) -> str | None: ...

    @property
    def no_speech(self) -> bool: ...

    @property
    def translation(self) -> str | None: ...


@dataclass(frozen=True)
class JudgedText:
    """A text for the moderation model, and what it is; verdicts record both."""

    text: str
    judged: Judged

    @property
    def sha256(self) -> str:
        return text_sha256(self.text)


def text_to_judge(
    transcript: Spoken, languages: AbstractSet[str] | None, other: OtherLanguages = "record"
) -> JudgedText | None:
    """Choose the text. None when nobody speaks, or in another language than `languages` (None: all are judged).

    With `other` "translate", the translation stands in for speech in another language. Without a translation, or with
    an empty one, such speech is not judged.
    """
    if transcript.no_speech:
        return None
    if languages is None or transcript.language in languages:
        return JudgedText(transcript.text, "transcript")
    if other == "translate" and transcript.translation:
        return JudgedText(transcript.translation, "translation")
    return None


def text_sha256(text: str) -> str:
    """The hash of a judged text, of its UTF-8 as Postgres stores the text."""
    return hashlib.sha256(storable(text).encode()).hexdigest()
