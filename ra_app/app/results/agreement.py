"""How far the coders of a study agree: the numbers of the agreement page, for one codebook version.

The results of a large study take seconds, so the last ones are kept in the process until a judgement comes or goes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from threading import Lock

from app.codebooks.codebook import Label
from app.models import Study
from app.results import judgements
from app.results.judgements import Alike, Version, Which
from app.statistics.agreement import Agreement, Kinds, agreement_of_kinds
from app.statistics.estimate import Estimate
from app.statistics.kappa import Answers, Kappas, kappas_of_answers
from app.statistics.proportions import proportion

KEPT = 32  # results; each is some kilobytes
WEEK_DRAWS = 500  # a band of a plot: its limits need not be as steady as those of a table
PAIR_DRAWS = 500  # with 10 coders and 33,000 clips, 2,000 draws take two seconds longer and move no second digit
MOST_WEEKS = 53


@dataclass(frozen=True, kw_only=True)
class OfLabel:
    label: Label
    agreement: Agreement
    given: tuple[tuple[str, Estimate], ...]  # pseudonym, and the share of the clips to which they gave the label


@dataclass(frozen=True, kw_only=True)
class Week:
    monday: date
    agreement: Agreement


@dataclass(frozen=True, kw_only=True)
class Results:
    clips: int  # with at least one judgement
    judgements: int
    labels: tuple[OfLabel, ...]
    label: Label | None  # the chosen one; None: the codebook has none
    weeks: tuple[Week, ...]  # of the chosen label
    kappas: Kappas  # of the chosen label


class _Kept:
    """The last results, by what they were made of. Threads may make the same result at once; both are right."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._results: OrderedDict[Hashable, Results] = OrderedDict()

    def get(self, key: Hashable) -> Results | None:
        with self._lock:
            return self._results.get(key)

    def put(self, key: Hashable, results: Results) -> None:
        with self._lock:
            self._results[key] = results
            while len(self._results) > KEPT:
                self._results.popitem(last=False)


_kept = _Kept()


def results(study: Study, which: Which, version: Version, chosen: str | None = None) -> Results:
    """Return the results, made anew only if a judgement was added or removed.

    `chosen` is the code of the label whose pairs and weeks are wanted; None: the one that is given most often of those
    that can stand with others.
    """
    newest = (version.newest_label, version.newest_at, version.judgements)
    key = (study.study_id, which, version.codebook.id, version.name, chosen, *newest)
    found = _kept.get(key)
    if found is None:
        found = computed(judgements.alike(study, which, version), version, chosen)
        _kept.put(key, found)
    return found


def computed(clips: Iterable[Alike], version: Version, chosen: str | None = None) -> Results:
    """Return the results of clips that are already counted."""
    counted = list(clips)
    names = judgements.pseudonyms([user for one in counted for user, _ in one.answers])
    labels = [label for label in version.codebook.labels if not label.undecided]
    kinds: dict[str, Counter[tuple[int, int]]] = {label.code: Counter() for label in labels}
    judged: Counter[int] = Counter()
    given: Counter[tuple[int, str]] = Counter()
    for one in counted:
        for user, codes in one.answers:
            judged[user] += one.clips
            for code in codes:
                given[user, code] += one.clips
        for code, of_label in kinds.items():
            of_label[_kind(one, code)] += one.clips
    label = next((label for label in labels if label.code == chosen), None) or _most_given(labels, given)
    weeks: defaultdict[date, Counter[tuple[int, int]]] = defaultdict(Counter)
    answers: Counter[Answers] = Counter()
    for one in counted:
        if label is not None:
            weeks[one.week][_kind(one, label.code)] += one.clips
            answers[_by_coder(one, label.code, names)] += one.clips
    return Results(
        clips=sum(one.clips for one in counted),
        judgements=sum(judged.values()),
        labels=tuple(
            OfLabel(
                label=label,
                agreement=agreement_of_kinds(kinds[label.code]),
                given=_given(label.code, given, judged, names),
            )
            for label in labels
        ),
        label=label,
        weeks=tuple(_weeks(weeks)),
        kappas=kappas_of_answers(answers, PAIR_DRAWS),
    )


def _most_given(labels: Sequence[Label], given: Counter[tuple[int, str]]) -> Label | None:
    often: Counter[str] = Counter()
    for (_, code), clips in given.items():
        often[code] += clips
    return max(labels, key=lambda label: (not label.exclusive, often[label.code]), default=None)


def _kind(one: Alike, code: str) -> tuple[int, int]:
    return len(one.answers), sum(code in codes for _, codes in one.answers)


def _by_coder(one: Alike, code: str, names: dict[int, str]) -> Answers:
    return tuple(sorted((names.get(user, f"user {user}"), code in codes) for user, codes in one.answers))


def _given(
    code: str, given: Counter[tuple[int, str]], judged: Counter[int], names: dict[int, str]
) -> tuple[tuple[str, Estimate], ...]:
    shares = [(names.get(user, f"user {user}"), proportion(given[user, code], count)) for user, count in judged.items()]
    return tuple(sorted(shares, key=lambda share: share[0]))


def _weeks(weeks: dict[date, Counter[tuple[int, int]]]) -> Iterable[Week]:
    for monday in sorted(weeks)[-MOST_WEEKS:]:
        found: Kinds = weeks[monday]
        yield Week(monday=monday, agreement=agreement_of_kinds(found, WEEK_DRAWS))
