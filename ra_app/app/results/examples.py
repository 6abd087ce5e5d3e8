"""The judged clips as a file of examples, as `audio-pipeline policy calibrate` and `policy test` read it.

JSONL: a line for each clip, with the text that the classifier read and the people's answer as `label`, 0 or 1. The
other fields are for people: those commands do not read them, and so they do not weigh the clips either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from app.results.reviewed import Clip, Question


def contradictions(question: Question) -> set[bytes]:
    """Return the texts, as hashes, that people answered differently in different clips: those commands refuse them."""
    first: dict[bytes, bool] = {}
    found = set()
    for clip in _with_text(question):
        key = _key(clip)
        if first.setdefault(key, clip.answer is True) != clip.answer:
            found.add(key)
    return found


def lines(question: Question, without: set[bytes]) -> Iterator[str]:
    """Return the lines of the file, but for the texts `without`."""
    for clip in _with_text(question):
        if _key(clip) not in without:
            yield json.dumps(_line(clip), ensure_ascii=False) + "\n"


def _with_text(question: Question) -> Iterator[Clip]:
    for clip in question.clips(texts=True):
        if isinstance(clip.answer, bool) and clip.text.strip():
            yield clip


def _key(clip: Clip) -> bytes:
    return hashlib.sha256(" ".join(clip.text.split()).encode()).digest()


def _line(clip: Clip) -> dict[str, object]:
    verdict = clip.verdict
    return {
        "text": clip.text,
        "label": int(clip.answer is True),
        "clip": clip.audio_id,
        "stratum": clip.stratum,
        "inclusion_probability": clip.probability,
        "policy_version": verdict.version if verdict is not None else None,
        "score": verdict.score if verdict is not None else None,
    }
