"""How good a transcript is, in words for reviewers. It says nothing about verdicts: it is found before any is made.

The pipeline stores a finding and its reasons as short keys (`finding` and `reasons` of `ra_queue`).
"""

from __future__ import annotations

from collections.abc import Sequence

CHOICES = {"all": "All clips", "sure": "Without doubtful ones", "doubtful": "Only doubtful ones"}

# By the pipeline's key. Each sentence says what it can mean for a reviewer, not how it was measured.
SENTENCES = {
    "no-speech-found": "Hardly any speech was found.",
    "little-speech": "There is very little speech.",
    "no-words": "A part of the speech has no words.",
    "few-words": "There are few words for so much speech.",
    "uncovered-speech": "A part of the speech has no text.",
    "dropped-window": "A part was taken for no speech, but may be speech.",
    "not-speech": "A part may be music or noise, and its words invented.",
    "phantom-phrase": "A part may be a phrase that machines invent when nobody speaks.",
    "repetition": "A part of the text repeats itself, and may be invented.",
    "repeated-text": "A part of the text may be repeated more or less often than it is said.",
    "other-sound": "Another voice or music may be as loud as the speech, and words may be mixed up.",
    "unsure-text": "The machine was unsure of the words.",
    "unclear-language": "The machine was unsure of the language.",
    "mixed-languages": "Parts of the clip are in different languages.",
}


def sentences(reasons: Sequence[str]) -> list[str]:
    """The reasons in words, each once. A key that is unknown here is left out."""
    return list(dict.fromkeys(SENTENCES[key] for key in reasons if key in SENTENCES))
