"""Words said and words written: word error rate and words kept, for texts in any language.

The demo's normaliser (`local/demo_wer.py`) is used for English. In other languages the letters of every script stay,
small numbers are digits ("dos" is 2), and an apostrophe separates words ("l'eco" is two words).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import jiwer

from local.demo_wer import normalise as normalised_english

NUMBERS = {
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
    "fr": "zero un deux trois quatre cinq six sept huit neuf dix onze douze",
    "it": "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici",
    "nl": "nul een twee drie vier vijf zes zeven acht negen tien elf twaalf",
    "ru": "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать",
}
_APOSTROPHES = re.compile(r"['’ʼ`]")


@dataclass(frozen=True)
class Words:
    """Counts over some clips: words of the references, words of them that were written, and edits."""

    said: int = 0
    kept: int = 0  # the words of the reference that the transcript has, in order
    wrong: int = 0  # substitutions, deletions and insertions

    def __add__(self, other: Words) -> Words:
        return Words(self.said + other.said, self.kept + other.kept, self.wrong + other.wrong)

    @property
    def error_rate(self) -> float | None:
        return self.wrong / self.said if self.said else None

    @property
    def kept_share(self) -> float | None:
        return self.kept / self.said if self.said else None


def normalise(text: str, language: str) -> str:
    """Return the text in lower case, without punctuation and accents, with small numbers as digits."""
    if language == "en":
        return normalised_english(text)
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    words = re.sub(r"[\W_]+", " ", _APOSTROPHES.sub(" ", plain)).split()
    numbers = _numbers(language)
    return " ".join(numbers.get(word, word) for word in words)


def count(reference: str, transcript: str, language: str) -> Words:
    """Compare one transcript with what was said."""
    said, heard = normalise(reference, language), normalise(transcript, language)
    if not said:
        return Words(0, 0, len(heard.split()))
    if not heard:
        return Words(len(said.split()), 0, len(said.split()))
    found = jiwer.process_words(said, heard)
    wrong = found.substitutions + found.deletions + found.insertions
    return Words(len(said.split()), found.hits, wrong)


def total(counts: Iterable[Words]) -> Words:
    return sum(counts, Words())


def _numbers(language: str) -> dict[str, str]:
    words = unicodedata.normalize("NFKD", NUMBERS.get(language, ""))
    plain = "".join(char for char in words if not unicodedata.combining(char))
    return {word: str(number) for number, word in enumerate(plain.split())}
