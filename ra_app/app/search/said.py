"""Pieces of transcripts around the words that were found, for the list of the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.models import db

_BEGIN, _END = "\ue000", "\ue001"  # around a word that was found; taken out of the text before
_APART = "\x1f"  # see search_words in schema.sql
_OPTIONS = (
    f'StartSel={_BEGIN}, StopSel={_END}, MaxFragments=2, MinWords=10, MaxWords=30, ShortWord=0, FragmentDelimiter=" … "'
)
_CUT = 200  # characters of a text in which nothing was looked for
_HEADLINE = """ts_headline(
    public.search_config({language}), public.search_words(left(translate({text}, :marks, ''), 100000)),
    CAST(:query AS tsquery), :options)"""


@dataclass(frozen=True)
class Part:
    """A piece of a text; `found`: it is a word that was looked for."""

    text: str
    found: bool = False


def pieces(transcripts: Sequence[int | None], query: str) -> dict[int | None, dict[str, Any]]:
    """Return by transcript a piece of its text around the words that were found."""
    chosen = [number for number in transcripts if number is not None]
    if not chosen:
        return {}
    values: dict[str, Any] = {"chosen": chosen, "marks": _BEGIN + _END}
    if query:
        values |= {"query": query, "options": _OPTIONS}
        own = _HEADLINE.format(language="language", text="text")
        english = _HEADLINE.format(language="'en'", text="translation")
        other = f"CASE WHEN translation <> '' THEN {english} END"
    else:
        own, other = f"left(translate(text, :marks, ''), {_CUT})", "NULL"
    query_of_all = f"SELECT transcript_id, {own}, {other} FROM transcripts WHERE transcript_id = ANY (:chosen)"  # noqa: S608
    rows = db.session.execute(sa.text(query_of_all), values)
    found: dict[int | None, dict[str, Any]] = {}
    for number, said, translation in rows:
        translated = _BEGIN in (translation or "") and _BEGIN not in said
        found[number] = {"said": _parts(translation if translated else said), "translated": translated}
    return found


def _parts(marked: str) -> list[Part]:
    parts = []
    for n, piece in enumerate(marked.replace(_APART, "").split(_BEGIN)):
        word, end, rest = piece.partition(_END)
        if n == 0 or not end:
            parts.append(Part(piece))
        else:
            parts += [Part(word, found=True), Part(rest)]
    return [part for part in parts if part.text]
