"""How much of a window's speech has text, by the time stamps of the text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from transcription.decoded import Piece
from transcription.transcript import Span, Window

MIN_UNCOVERED_S = 1.0  # of speech; time stamps are off by some tenths of a second
MIN_HALF_S = 1.5  # of speech in each half of a window
LEAD_S = 0.2  # before a stretch without text: Whisper misreads words that begin at the first sample


def coverage(window: Window, pieces: Sequence[Piece]) -> float:
    """The part of the window's speech within the times of the text, 0..1."""
    missing = sum(end - start for start, end in _without_text(window, pieces))
    return 1 - missing / window.speech_s if window.speech_s else 0.0


def split_off(window: Window, pieces: Sequence[Piece]) -> tuple[Window, list[Window]]:
    """Take out the stretches of at least MIN_UNCOVERED_S of speech without text -> the rest, and one window of each.

    Whisper leaves such stretches when it ends early, or skips from one sentence to a later one.
    """
    parts = []
    for stretch in _stretches(_without_text(window, pieces), window, pieces):
        if sum(end - start for start, end in stretch) >= MIN_UNCOVERED_S:
            start = max(window.start, stretch[0][0] - LEAD_S)
            end = window.end if stretch[-1][1] == window.spans[-1][1] else stretch[-1][1]
            parts.append(Window(start, end, tuple(stretch)))
    rest = window.spans
    for part in parts:
        for gap in part.spans:
            rest = tuple(span for whole in rest for span in _minus(whole, gap))
    return Window(window.start, window.end, rest), parts


def halves(window: Window) -> list[Window]:
    """Cut a window near the middle of its speech, in a pause if there is one; an empty list if it is too short."""
    if window.speech_s < 2 * MIN_HALF_S:
        return []
    middle = (window.spans[0][0] + window.spans[-1][1]) / 2
    pauses = [(end + start) / 2 for (_, end), (start, _) in pairwise(window.spans)]
    cut = min(pauses, key=lambda pause: abs(pause - middle), default=middle)
    if abs(cut - middle) > (window.end - window.start) / 4:
        cut = middle
    sides = ((window.start, cut), (cut, window.end))
    return [Window(start, end, _within(window.spans, start, end)) for start, end in sides]


def _within(spans: Sequence[Span], start: float, end: float) -> tuple[Span, ...]:
    return tuple((max(span[0], start), min(span[1], end)) for span in spans if span[0] < end and span[1] > start)


def _without_text(window: Window, pieces: Sequence[Piece]) -> list[Span]:
    """The stretches of speech outside all pieces, in seconds of the clip."""
    left = list(window.spans)
    for piece in pieces:
        text = (window.start + piece.start, window.start + piece.end)
        left = [span for whole in left for span in _minus(whole, text)]
    return left


def _stretches(gaps: Sequence[Span], window: Window, pieces: Sequence[Piece]) -> list[list[Span]]:
    """Group the gaps that have no text between them."""
    groups: list[list[Span]] = []
    for gap in gaps:
        if groups and not any(groups[-1][-1][1] <= window.start + piece.start < gap[0] for piece in pieces):
            groups[-1].append(gap)
        else:
            groups.append([gap])
    return groups


def _minus(whole: Span, taken: Span) -> list[Span]:
    """What is left of a stretch without another one."""
    if taken[1] <= whole[0] or taken[0] >= whole[1]:
        return [whole]
    sides = ((whole[0], taken[0]), (taken[1], whole[1]))
    return [side for side in sides if side[0] < side[1]]
