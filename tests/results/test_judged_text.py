"""Which text of a transcript is judged, and the hash by which equal texts are known."""

from __future__ import annotations

import hashlib
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Literal

import pytest

from db import JudgedText, text_sha256, text_to_judge
from tests.results.conftest import HEARD, SILENT
from transcription import Transcript

SPANISH = replace(HEARD, text="nos vemos", language="es")
TRANSLATED = replace(SPANISH, translation="we meet")
DOUBTFUL = replace(HEARD, finding="doubtful", reasons=("few-words",))
ORIGINAL, TRANSLATION = JudgedText("nos vemos", "transcript"), JudgedText("we meet", "translation")


@pytest.mark.parametrize(
    ("transcript", "languages", "other", "judged"),
    [
        (HEARD, {"en"}, "record", JudgedText(HEARD.text, "transcript")),
        (DOUBTFUL, {"en"}, "record", JudgedText(HEARD.text, "transcript")),
        (SILENT, {"en"}, "record", None),
        (SILENT, None, "translate", None),
        (SPANISH, {"en"}, "record", None),
        (SPANISH, {"en", "es"}, "record", ORIGINAL),
        (SPANISH, None, "record", ORIGINAL),
        (TRANSLATED, {"en"}, "record", None),
        (TRANSLATED, {"en"}, "translate", TRANSLATION),
        (TRANSLATED, {"es"}, "translate", ORIGINAL),
        (SPANISH, {"en"}, "translate", None),
        (replace(SPANISH, translation=""), {"en"}, "translate", None),
        (replace(HEARD, language=None), {"en"}, "record", None),
    ],
)
def test_the_judged_text_is_that_of_a_known_language(
    transcript: Transcript,
    languages: AbstractSet[str] | None,
    other: Literal["record", "translate"],
    judged: JudgedText | None,
) -> None:
    assert text_to_judge(transcript, languages, other) == judged


def test_the_hash_is_that_of_the_text_as_postgres_keeps_it() -> None:
    assert text_sha256("día") == hashlib.sha256("día".encode()).hexdigest()
    assert text_sha256("a\0b") == text_sha256("ab")
    assert JudgedText("ab", "translation").sha256 == text_sha256("ab")
    assert text_sha256("\ud800") != text_sha256("")
