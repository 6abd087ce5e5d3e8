"""Which clips a lead wants in a study, as the form says it, checked; and how many of each stratum that gives."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from werkzeug.datastructures import MultiDict

from app.models import db
from app.pipeline import audio_files, policies
from app.studies.sampling import FLAGGED_NUMBER, NOT_JUDGED_NUMBER, Frame, Measured
from app.studies.settings_form import decimal, whole

WHICH = ("sample", "flagged", "list")
MOST_LISTED = 10_000  # clips in one form
MOST_CLIPS = 1_000_000  # of a study
MOST_BOUNDS = 9
NAMED = 10  # clips that a sentence names
ALL = "all"
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True, kw_only=True)
class Selection:
    which: str
    seed: int
    frame: Frame = field(default_factory=Frame)
    flagged: int | None = None  # clips of this stratum; None: all
    rest: tuple[int, ...] = ()  # one number for all bands together, or one for each, the highest scores first
    not_judged: int = 0
    clips: tuple[int, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)


def new_seed() -> int:
    return secrets.randbelow(10**9)


def typed() -> dict[str, str]:
    """Return the fields of an empty form."""
    return {
        "which": "sample", "flagged": ALL, "bounds": "80% 95%", "rest": "300", "not_judged": "0",
        "seed": str(new_seed()),
    }  # fmt: skip


def known_policies() -> list[str]:
    """Return the policies by which the pipeline has ever judged."""
    return list(db.session.scalars(sa.select(policies.c.policy).distinct().order_by(policies.c.policy)))


def read(form: MultiDict[str, str]) -> Selection:
    """Read and check the form."""
    problems: dict[str, str] = {}
    which = form.get("which", "")
    if which not in WHICH:
        problems["which"] = "Choose which clips the study has."
    seed = whole(form.get("seed"), 0, 2**63 - 1)
    if seed is None:
        problems["seed"] = "Write a whole number, for example 20261."
    chosen = Selection(which=which, seed=seed or 0, frame=Frame(policies=_policies(form, problems)))
    values: dict[str, Any] = vars(chosen) | {"problems": problems}
    if which == "sample":
        values |= _sample(form, chosen.frame.policies, problems)
    if which == "list":
        values |= {"clips": read_list(form, problems)}
    return Selection(**values)


def read_list(form: Mapping[str, str], problems: dict[str, str]) -> tuple[int, ...]:
    """Return the clips of the text area, each once. Numbers that are no clips with audio are named in a problem."""
    parts = re.split(r"[\s,;]+", form.get("clips", "").strip())
    wrong = [part for part in parts if part and not (part.isascii() and part.isdigit() and len(part) < 19)]
    if wrong:
        problems["clips"] = f"{_some(wrong)}: not the number of a clip. Write numbers with blanks or lines between."
        return ()
    clips = tuple(dict.fromkeys(int(part) for part in parts if part))
    if not clips:
        problems["clips"] = "Write the numbers of the clips, with blanks or lines between."
    elif len(clips) > MOST_LISTED:
        problems["clips"] = (
            f"These are {len(clips)} clips. Make the study with {MOST_LISTED}, and extend it by the rest."
        )
    else:
        unknown = _unknown(clips)
        if unknown:
            problems["clips"] = (
                f"{_some(unknown)}: {'there is no such clip' if len(unknown) == 1 else 'there are no such clips'} "
                "with audio. Take the numbers out of the list."
            )
    return clips


def wanted(selection: Selection, measured: Measured, problems: dict[str, str]) -> dict[int, int]:
    """Return how many clips of each stratum are drawn, by its number."""
    flagged = measured.stratum(FLAGGED_NUMBER).size
    found = {FLAGGED_NUMBER: flagged if selection.flagged is None else min(selection.flagged, flagged)}
    found[NOT_JUDGED_NUMBER] = min(selection.not_judged, measured.stratum(NOT_JUDGED_NUMBER).size)
    bands = measured.bands
    if len(selection.rest) == 1:
        found |= _shared_out(selection.rest[0], {band.number: band.size for band in bands})
    elif len(selection.rest) == len(bands):
        found |= {band.number: min(n, band.size) for band, n in zip(bands, selection.rest, strict=True)}
    else:
        problems["rest"] = (
            f"There are {len(bands)} bands of scores, but {len(selection.rest)} numbers. Write one number, which the "
            f"bands share equally, or {len(bands)}, the band with the highest scores first."
        )
    if not problems and not sum(found.values()):
        problems["which"] = "That gives no clip. Choose other dates, languages, policies or numbers."
    elif sum(found.values()) > MOST_CLIPS:
        problems["which"] = f"That gives {sum(found.values())} clips; a study has at most {MOST_CLIPS}. Draw fewer."
    return found


def _policies(form: MultiDict[str, str], problems: dict[str, str]) -> tuple[str, ...]:
    chosen, known = form.getlist("policies"), known_policies()
    wrong = [policy for policy in chosen if policy not in known]
    if wrong:
        problems["policies"] = f"{_some(wrong)}: not a policy by which clips were judged. Choose others."
    return tuple(policy for policy in known if policy in chosen)


def _sample(form: Mapping[str, str], chosen: tuple[str, ...], problems: dict[str, str]) -> dict[str, Any]:
    since, until = (_day(form, name, problems) for name in ("since", "until"))
    if since and until and since > until:
        problems["until"] = "The last day is before the first one."
    languages = tuple(dict.fromkeys(form.get("languages", "").lower().replace(",", " ").split()))
    if not all(_LANGUAGE.fullmatch(language) for language in languages):
        problems["languages"] = (
            "Write codes of languages with two or three letters, for example: en de. Or leave it empty."
        )
    bounds, shares = _bounds(form, problems)
    flagged_text = form.get("flagged", "").strip().lower()
    flagged = None if flagged_text == ALL else whole(flagged_text, 0, MOST_CLIPS)
    if flagged is None and flagged_text != ALL:
        problems["flagged"] = "Write a whole number, or: all."
    rest = [whole(part, 0, MOST_CLIPS) for part in form.get("rest", "").replace(",", " ").split()]
    if not rest or None in rest:
        problems["rest"] = "Write a whole number, or one for each band of scores, with blanks between."
    not_judged = whole(form.get("not_judged") or "0", 0, MOST_CLIPS)
    if not_judged is None:
        problems["not_judged"] = "Write a whole number; 0 leaves these clips out."
    frame = Frame(
        policies=chosen, since=since, until=until, languages=languages, bounds=bounds, shares=shares,
        as_of=datetime.now(UTC),
    )  # fmt: skip
    given = tuple(number for number in rest if number is not None)
    return {"frame": frame, "flagged": flagged, "rest": given, "not_judged": not_judged or 0}


def _bounds(form: Mapping[str, str], problems: dict[str, str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return bounds that are scores, and bounds that are shares of the unflagged clips. Only one of them is given."""
    parts = form.get("bounds", "").split()
    percent = bool(parts) and all(part.endswith("%") for part in parts)
    numbers = [decimal(part.removesuffix("%"), 0, 100 if percent else 1) for part in parts]
    known = tuple(sorted({number for number in numbers if number is not None}))
    if None in numbers or len(parts) > MOST_BOUNDS:
        problems["bounds"] = (
            f"Write at most {MOST_BOUNDS} scores from 0 to 1, for example 0.05 0.2; or shares of the clips that are "
            "not flagged, for example 80% 95%. Leave it empty for one band."
        )
        return (), ()
    return ((), tuple(number / 100 for number in known)) if percent else (known, ())


def _shared_out(clips: int, sizes: Mapping[int, int]) -> dict[int, int]:
    """Share clips equally between bands, as far as each has so many; what one lacks goes to the others."""
    found = dict.fromkeys(sizes, 0)
    left = min(clips, sum(sizes.values()))
    while left:
        room = [number for number in sizes if found[number] < sizes[number]]
        each, over = divmod(left, len(room))
        for place, number in enumerate(room):
            more = min(each + (place < over), sizes[number] - found[number])
            found[number] += more
            left -= more
    return found


def _day(form: Mapping[str, str], name: str, problems: dict[str, str]) -> date | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        problems[name] = "Write a day as in 2026-11-30, or leave it empty."
        return None


def _unknown(clips: tuple[int, ...]) -> list[str]:
    given = sa.func.unnest(sa.cast(list(clips), sa.ARRAY(sa.BigInteger))).column_valued("number")
    has_audio = sa.exists().where(audio_files.c.audio_id == given, audio_files.c.s3_opus_path.is_not(None))
    return [str(number) for number in db.session.scalars(sa.select(given).where(~has_audio).limit(NAMED + 1))]


def _some(words: list[str]) -> str:
    named = ", ".join(word[:30] for word in words[:NAMED])
    return f"{named} and others" if len(words) > NAMED else named
