"""Cut the text of a window into sentences with times, so that a reader can follow the audio.

Whisper puts time stamps between stretches of text, which may end in the middle of a sentence or hold several. Here a
sentence begins and ends where its first and last letter lie between these time stamps, if letters took equal time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

Timed = tuple[float, float, str]

MAX_CHARACTERS = 160  # about 10 s of speech; a longer sentence is cut at a comma or a space
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+|(?<=[。！？])")


def timed_sentences(pieces: Sequence[Timed]) -> list[Timed]:
    """Cut timed text at its sentences -> (start, end, text) each, in seconds, in order and without overlap.

    `pieces` are (start, end, text) in seconds, in order. Their texts are joined by spaces.
    """
    if not pieces:
        return []
    text = " ".join(piece for _, _, piece in pieces)
    places, times = _known_times(pieces)
    timed, place = [], 0
    for sentence in split_sentences(text):
        begin = text.index(sentence, place)
        place = begin + len(sentence)
        start, end = np.interp((begin, place), places, times)
        timed.append((round(float(start), 2), round(float(end), 2), sentence))
    return timed


def _known_times(pieces: Sequence[Timed]) -> tuple[list[int], list[float]]:
    """Places in the joined text, and the time of each; later times are never smaller."""
    places, times, place, latest = [], [], 0, 0.0
    for start, end, text in pieces:
        for at, time in ((place, start), (place + len(text), end)):
            latest = max(latest, time)
            places.append(at)
            times.append(latest)
        place += len(text) + 1
    return places, times


def split_sentences(text: str) -> list[str]:
    """Cut a text at ends of sentences, and long sentences at commas or spaces. Only white space is dropped."""
    found = []
    for sentence in _split(text.strip()):
        rest = sentence.strip()
        while len(rest) > MAX_CHARACTERS:
            cut = max(rest.rfind(mark, 40, MAX_CHARACTERS) + len(mark) for mark in (", ", "; ", "，", "、"))
            if cut < 40:  # no mark found
                cut = rest.rfind(" ", 40, MAX_CHARACTERS) + 1 or MAX_CHARACTERS
            found.append(rest[:cut].strip())
            rest = rest[cut:].strip()
        if rest:
            found.append(rest)
    return found


def _split(text: str) -> Iterator[str]:
    """Cut after each end of a sentence; a closing quotation mark stays with its sentence."""
    position = 0
    for match in _SENTENCE_END.finditer(text):
        yield text[position : match.end()]
        position = match.end()
    yield text[position:]
