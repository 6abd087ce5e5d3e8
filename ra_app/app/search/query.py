"""What somebody types into the search, as conditions that Postgres understands.

Words are looked for as search engines do: all of them, `"quoted phrases"` as they stand, `-word` for what must not be
there, and `or` between two choices. Each word is looked for as it is typed, as the language of the transcript stems it,
and as English stems it (for the translation). A word that is too common in the transcript's language to be in the index
(“the”) is passed over beside other words. Nothing typed here is ever part of a statement: it is handed to Postgres
as values, and only what Postgres made of them, a `tsquery`, is joined here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from app.models import db

MAX_TERMS = 20
QUERY_LENGTH = 300  # characters
_TOKEN = re.compile(r'(-?)"([^"]*)"?|([^\s"]+)')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Along the index on (language, audio_id), from one language to the next.
_LANGUAGES = sa.text("""
    WITH RECURSIVE known (language) AS (
        (SELECT language FROM transcripts WHERE language IS NOT NULL ORDER BY language LIMIT 1)
        UNION ALL
        SELECT (SELECT t.language FROM transcripts t WHERE t.language > known.language ORDER BY t.language LIMIT 1)
        FROM known WHERE known.language IS NOT NULL
    )
    SELECT language FROM known WHERE language IS NOT NULL LIMIT 200
""")
# A stemmed form counts only if no word of a phrase is left out of it as too common.
_FORMS = sa.text("""
    SELECT l.language, w.n - 1 AS n, ARRAY(
        SELECT DISTINCT q::text
        FROM unnest(ARRAY[
            phraseto_tsquery('simple', public.search_words(w.word)),
            phraseto_tsquery(public.search_config(l.language), w.word),
            phraseto_tsquery('english', w.word)]) WITH ORDINALITY f (q, place)
        WHERE place = 1 OR numnode(q) = numnode(phraseto_tsquery('simple', w.word))
        ORDER BY 1) AS forms,
        numnode(phraseto_tsquery(public.search_config(l.language), w.word)) = 0 AS common
    FROM unnest(CAST(:languages AS text[])) l (language)
    CROSS JOIN unnest(CAST(:words AS text[])) WITH ORDINALITY w (word, n)
""")


@dataclass(frozen=True)
class Term:
    text: str
    negated: bool = False


@dataclass(frozen=True)
class Forms:
    """What a term becomes in one language; `common`: that language's index leaves its words out."""

    texts: Sequence[str]
    common: bool


@dataclass(frozen=True)
class Words:
    """A search for words, as Postgres' `tsquery` in text.

    `anywhere` finds at least what is wanted, in every language, and is what the index is asked for; empty if only
    words that must not be there were typed. `exact` is what holds in transcripts of these languages, and `otherwise`
    in those of every other language, or of none.
    """

    anywhere: str
    exact: Sequence[tuple[tuple[str, ...], str]]
    otherwise: str


def clean(typed: str) -> str:
    return _CONTROL.sub(" ", typed).strip()[:QUERY_LENGTH]


def terms(typed: str) -> list[list[Term]]:
    """Return the choices between which one typed `or`, each as the terms that must all hold."""
    groups: list[list[Term]] = [[]]
    for count, match in enumerate(_TOKEN.finditer(clean(typed))):
        if count == MAX_TERMS:
            break
        minus, phrase, word = match.groups()
        if word is not None and word.lower() == "or":
            groups.append([])
            continue
        if word is not None:
            minus, phrase = ("-", word[1:]) if word.startswith("-") else ("", word)
        if phrase.strip():
            groups[-1].append(Term(phrase, bool(minus)))
    return [group for group in groups if group]


def languages() -> list[str]:
    """Return the languages of all transcripts."""
    return list(db.session.scalars(_LANGUAGES))


def words(typed: str, among: Sequence[str]) -> Words | None:
    """Return the search for what was typed in transcripts of these languages; None if there is no word in it."""
    groups = terms(typed)
    texts = [term.text for group in groups for term in group]
    if not texts:
        return None
    forms: dict[str | None, dict[int, Forms]] = {}
    for row in db.session.execute(_FORMS, {"languages": [*among, None], "words": texts}):
        forms.setdefault(row.language, {})[row.n] = Forms([form for form in row.forms if form], row.common)
    otherwise = _joined(groups, forms[None])
    if not otherwise:
        return None
    exact: dict[str, list[str]] = {}
    for language in among:
        exact.setdefault(_joined(groups, forms[language]), []).append(language)
    exact.pop(otherwise, None)
    return Words(
        anywhere=_anywhere(groups, forms),
        exact=[(tuple(found), query) for query, found in exact.items()],
        otherwise=otherwise,
    )


def _joined(groups: Sequence[Sequence[Term]], forms: Mapping[int, Forms]) -> str:
    """Join the forms of all terms in one language. A term in which Postgres finds no word is left out."""
    choices = []
    for group in _numbered(groups):
        known = [(term, forms[n]) for n, term in group if forms[n].texts]
        told = [each for each in known if not each[1].common] or known
        if told:
            parts = [("!" if term.negated else "") + _either(found.texts) for term, found in told]
            choices.append(f"({' & '.join(parts)})")
    return " | ".join(choices)


def _anywhere(groups: Sequence[Sequence[Term]], forms: Mapping[str | None, Mapping[int, Forms]]) -> str:
    """Join what must be there whatever the language is, in the forms of all languages.

    Empty if there is a choice in which nothing must be there.
    """
    choices = []
    for group in _numbered(groups):
        parts = []
        for n, term in group:
            found = [of_language[n] for of_language in forms.values()]
            every = sorted({text for each in found for text in each.texts})
            if every and not term.negated and not any(each.common for each in found):
                parts.append(_either(every))
        if not parts:
            return ""
        choices.append(f"({' & '.join(parts)})")
    return " | ".join(choices)


def _numbered(groups: Sequence[Sequence[Term]]) -> list[list[tuple[int, Term]]]:
    numbers = itertools.count()
    return [[(next(numbers), term) for term in group] for group in groups]


def _either(forms: Sequence[str]) -> str:
    return f"({' | '.join(f'({form})' for form in forms)})"
