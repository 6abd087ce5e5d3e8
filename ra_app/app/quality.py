"""How good a transcript is, in words for reviewers. It says nothing about verdicts: it is found before any is made.

The pipeline stores a finding and its reasons as short keys (`finding` and `reasons` of `ra_queue`).
"""

from __future__ import annotations

from collections.abc import Sequence

CHOICES = {"all": "All clips", "sure": "Without doubtful ones", "doubtful": "Only doubtful ones"}

# By the pipeline's key. Each sentence says what it can mean for a reviewer, not how it was measured.
SENTENCES = {
    "no-speech-found": "Hardly any speech was found.",
    "no-words": "No words were found in a part of the speech.",
    "not-speech": "A part may be music or noise, and its words invented.",
    "repetition": "A part of the text repeats itself.",
    "repeats": "A part of the text repeats itself.",
    "compression": "A part of the text repeats itself.",
    "phantom-phrase": "A part is a phrase that machines often invent when nobody speaks.",
    "few-words": "There are few words for so much speech.",
    "uncovered": "A part of the speech has no text.",
    "low-logprob": "The machine was unsure of many words.",
    "language": "The machine was unsure of the language.",
}


def sentences(reasons: Sequence[str]) -> list[str]:
    """The reasons in words, each once. A key that is unknown here is left out."""
    return list(dict.fromkeys(SENTENCES[key] for key in reasons if key in SENTENCES))
