"""The filters of the search, as they stand in the address of its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import MappingProxyType

from app.search.query import clean

VERDICTS = {"flagged": "Flagged", "clean": "Judged and not flagged", "unjudged": "Not judged"}
FINDINGS = {"speech": "Speech", "doubtful": "Doubtful", "no_speech": "No speech"}
_YEARS = (1970, 9000)
_TEXTS = ("policy", "language", "field", "value", "label", "batch", "clip")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What is looked for; what is empty does not matter."""

    words: str = ""
    verdict: str = ""  # of VERDICTS
    policy: str = ""  # whose verdict is meant; empty: of any
    language: str = ""
    since: datetime | None = None  # processed on this day (UTC) or later
    until: datetime | None = None  # the beginning of the last day
    finding: str = ""  # of FINDINGS
    field: str = ""  # of the platform's metadata
    value: str = ""
    label: str = ""  # a code that somebody gave, in any study
    batch: str = ""
    clip: str = ""  # its number or the beginning of its file name
    typed: Mapping[str, str] = dataclasses.field(default_factory=lambda: MappingProxyType({}))  # the fields of the form
    problems: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: MappingProxyType({})
    )  # by field: what is wrong with it


def read(given: Mapping[str, str]) -> Filters:
    """Read the filters of an address. What cannot be used is named in `problems`."""
    names = ("words", "verdict", "since", "until", "finding", *_TEXTS)
    typed = {name: text for name in names if (text := clean(given.get(name, "")))}
    problems: dict[str, str] = {}
    verdict, finding = typed.get("verdict", ""), typed.get("finding", "")
    if verdict and verdict not in VERDICTS:
        problems["verdict"] = "Choose one of the list."
    if typed.get("policy") and not verdict:
        problems["verdict"] = "Say what the policy's verdict should be, or choose any policy."
    if finding and finding not in FINDINGS:
        problems["finding"] = "Choose one of the list."
    if typed.get("field") and not typed.get("value"):
        problems["value"] = "Write the value that the field should have."
    if typed.get("value") and not typed.get("field"):
        problems["field"] = "Write the name of the field that has this value."
    since, until = (_day(name, typed, problems) for name in ("since", "until"))
    if since and until and since > until:
        problems["until"] = "The last day is before the first day."
    return Filters(
        words=typed.get("words", ""), verdict=verdict, finding=finding, since=since, until=until,
        typed=typed, problems=problems, **{name: typed.get(name, "") for name in _TEXTS},
    )  # fmt: skip


def _day(name: str, typed: Mapping[str, str], problems: dict[str, str]) -> datetime | None:
    text = typed.get(name)
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not _YEARS[0] <= day.year <= _YEARS[1]:
        problems[name] = f"“{text}” is not a day; write it as 2026-11-29."
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
