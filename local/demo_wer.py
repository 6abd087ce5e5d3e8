"""Word error rate, after what a listener would call the same has been made the same."""

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
    """Lower case, no punctuation, no accents; numbers as digits, `Mr` as `mister`."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)  # 10,000
    plain = plain.replace("%", " percent ").replace("&", " and ")
    plain = re.sub(r"['\u2019]", "", plain)  # don't, don’t and dont are one word
    words = re.sub(r"[^a-z0-9]+", " ", plain).split()
    return " ".join(NUMBERS.get(word, SPELLINGS.get(word, word)) for word in words)


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Errors per word over all (said, heard) pairs together; None when nothing was said."""
    said = [normalise(reference) for reference, _ in pairs]
    if not any(said):
        return None
    return float(jiwer.wer(said, [normalise(hypothesis) for _, hypothesis in pairs]))
