"""Word error rate. Both texts are normalised first: case, punctuation, numbers and spellings do not count as errors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import jiwer

UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
NUMBERS = {word: str(number) for number, word in enumerate(UNITS)} | {word: str(n) for word, n in TENS.items()}
SPELLINGS = {"mr": "mister", "mrs": "missus", "okay": "ok", "alright": "all right", "neighbour": "neighbor"}


def normalise(text: str) -> str:
    """Return the text in lower case, without punctuation and accents, with numbers as digits and `Mr` as `mister`."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)  # 10,000
    plain = plain.replace("%", " percent ").replace("&", " and ")
    plain = re.sub(r"['\u2019]", "", plain)  # don't, don’t and dont are one word
    words = re.sub(r"[^a-z0-9]+", " ", plain).split()
    return " ".join(NUMBERS.get(word, SPELLINGS.get(word, word)) for word in words)


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return the error rate over all (reference, transcript) pairs, or None if the references have no words."""
    said = [normalise(reference) for reference, _ in pairs]
    if not any(said):
        return None
    return float(jiwer.wer(said, [normalise(hypothesis) for _, hypothesis in pairs]))


def words_kept(pairs: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """Count the words of the references that are in their transcripts, and all words of the references."""
    said = [normalise(reference) for reference, _ in pairs if normalise(reference)]
    heard = [normalise(hypothesis) for reference, hypothesis in pairs if normalise(reference)]
    if not said:
        return 0, 0
    found = jiwer.process_words(said, heard)
    return found.hits, sum(len(reference.split()) for reference in said)
