"""The language of a window, and when it differs from its clip's."""

from __future__ import annotations

import pytest

from transcription.languages import Guess, language_of


@pytest.mark.parametrize(
    ("probabilities", "clip", "speech_s", "language"),
    [
        ({"en": 0.9, "es": 0.1}, None, 10, "en"),
        ({"en": 0.4, "es": 0.3}, None, 10, "en"),
        ({"es": 0.95, "en": 0.02}, "en", 10, "es"),
        ({"es": 0.95, "en": 0.02}, "en", 1.5, "en"),  # too short to know
        ({"es": 0.60, "en": 0.02}, "en", 10, "en"),  # not sure enough
        ({"es": 0.75, "en": 0.20}, "en", 10, "en"),  # the clip's language is possible
    ],
)
def test_a_window_has_its_own_language_only_if_it_is_clearly_another(
    probabilities: dict[str, float], clip: str | None, speech_s: float, language: str
) -> None:
    of_clip = Guess(clip, 0.9) if clip else None
    guess = language_of(probabilities, of_clip, speech_s)
    assert guess.language == language
    assert guess.probability == (0.9 if language == clip else probabilities[language])
