"""What a lead writes into the form of a study, checked: all but which clips it has (`app/studies/selection_form.py`).

Every problem stands beside its field and says what to do. Nothing here writes to the database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from werkzeug.datastructures import MultiDict

from app.codebooks.published import codebook_in_force
from app.models import SHOWS, Member, PublishedCodebook, Study, User, db
from app.models.studies import KINDS, MODES
from app.studies import protection
from app.wellbeing.wellness import KEY, Wellness
from app.wellbeing.wellness_values import OF_STUDY, WellnessError

NAME_LENGTH = 100  # characters
DESCRIPTION_LENGTH = 2000
MOST_CODERS = 20
LEASE_MINUTES = (1, 1440)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The columns of a study as they were written, its members, and what is wrong, by the name of the field."""

    columns: dict[str, Any]
    wellness: dict[str, Any]
    members: tuple[int, ...]
    problems: dict[str, str] = field(default_factory=dict)


def read(form: MultiDict[str, str]) -> Settings:
    """Read and check the form."""
    codebook_in_force()  # publishes the app's own, if that was forgotten
    problems: dict[str, str] = {}
    columns = {**_words(form, problems), **_choices(form, problems), **_coders(form, problems)}
    everybody = form.get("everybody") != "no"
    members = tuple(int(number) for number in form.getlist("members") if number.isdigit() and len(number) < 19)
    if not everybody and not members:
        problems["members"] = "Choose at least one person, or let everybody take part."
    columns |= {"everybody": everybody, "shares_exposure": form.get("shares_exposure") == "yes"}
    return Settings(columns=columns, wellness=_wellness(form, problems), members=members, problems=problems)


def typed(study: Study | None = None) -> MultiDict[str, str]:
    """Return the form of this study as it is now, or of a new one."""
    ours = codebook_in_force()
    if study is None:
        shown: dict[str, Any] = {
            "kind": "study", "mode": "blind", "coders": "2", "share": "100", "everybody": "yes", "lease": "15",
            "codebook": f"{ours.id} {ours.version}",
        }  # fmt: skip
        return MultiDict(shown)
    shown = {
        "name": study.name, "description": study.description, "kind": study.kind, "mode": study.mode,
        "coders": str(study.coders_per_item), "share": f"{100 * study.double_share:g}",
        "everybody": "yes" if study.everybody else "no", "lease": f"{study.lease_s / 60:g}",
        "codebook": f"{study.codebook_id or ours.id} {study.codebook_version or ours.version}",
        "shows": list(study.shows), "members": [str(number) for number in members_of(study)],
        "shares_exposure": "yes" if study.shares_exposure else "",
    }  # fmt: skip
    values = protection.given(study)
    shown |= {f"{KEY}.{key}": protection.as_text(value) for key, value in values.items()}
    return MultiDict(shown)


def choices() -> dict[str, Any]:
    """Return what the form offers."""
    codebook_in_force()  # publishes the app's own, if that was forgotten
    defaults = asdict(Wellness())
    return {
        "codebooks": [(each, each) for each in codebooks()],
        "people": db.session.execute(
            sa.select(User.user_id, User.username).where(User.active).order_by(User.username)
        ).all(),
        "wellness": [(key, rule.allowed, protection.as_text(defaults[key])) for key, rule in OF_STUDY.items()],
    }


def codebooks() -> list[str]:
    """Return the published versions of codebooks, the newest first, as the form writes them."""
    published = sa.select(PublishedCodebook.codebook_id, PublishedCodebook.version)
    rows = db.session.execute(published.order_by(PublishedCodebook.published_at.desc()))
    return [f"{row.codebook_id} {row.version}" for row in rows]


def members_of(study: Study) -> list[int]:
    return list(db.session.scalars(sa.select(Member.user_id).where(Member.study_id == study.study_id)))


def whole(text: str | None, low: int, high: int) -> int | None:
    """Return the whole number from low to high that the text is, or None."""
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        return None
    return int(text) if low <= int(text) <= high else None


def decimal(text: str | None, low: float, high: float) -> float | None:
    """Return the number from low to high that the text is, or None. A comma may stand for the point."""
    try:
        number = float((text or "").strip().replace(",", "."))
    except ValueError:
        return None
    return number if low <= number <= high else None


def _words(form: Mapping[str, str], problems: dict[str, str]) -> dict[str, Any]:
    name = form.get("name", "").strip()
    description = _CONTROL.sub("", form.get("description", "").replace("\r\n", "\n")).strip()
    if not name:
        problems["name"] = "Give the study a name."
    elif len(name) > NAME_LENGTH or not name.isprintable():
        problems["name"] = f"Write a name of at most {NAME_LENGTH} characters in one line."
    if len(description) > DESCRIPTION_LENGTH:
        problems["description"] = (
            f"The description has {len(description)} characters. Shorten it to {DESCRIPTION_LENGTH} or fewer."
        )
    return {"name": name, "description": description}


def _choices(form: MultiDict[str, str], problems: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"shows": [each for each in SHOWS if each in form.getlist("shows")]}
    for key, allowed in (("kind", KINDS), ("mode", MODES)):
        found[key] = form.get(key, "")
        if found[key] not in allowed:
            problems[key] = f"Choose one of: {', '.join(allowed)}."
    codebook = form.get("codebook", "")
    if codebook not in codebooks():
        problems["codebook"] = "Choose one of the published codebooks."
    found["codebook_id"], _, found["codebook_version"] = codebook.partition(" ")
    minutes = decimal(form.get("lease"), *LEASE_MINUTES)
    if minutes is None:
        problems["lease"] = f"Write a number of minutes from {LEASE_MINUTES[0]} to {LEASE_MINUTES[1]}."
    found["lease_s"] = round((minutes or 15) * 60)
    return found


def _coders(form: Mapping[str, str], problems: dict[str, str]) -> dict[str, Any]:
    coders, share = whole(form.get("coders"), 1, MOST_CODERS), decimal(form.get("share"), 0, 100)
    if coders is None:
        problems["coders"] = f"Write a whole number from 1 to {MOST_CODERS}."
    if share is None:
        problems["share"] = "Write a number of percent from 0 to 100. With 100, all clips get all coders."
    return {"coders_per_item": coders or 1, "double_share": (share if share is not None else 100) / 100}


def _wellness(form: Mapping[str, str], problems: dict[str, str]) -> dict[str, Any]:
    """Read the values that are not empty; an empty one is the default."""
    values: dict[str, Any] = {}
    for key in OF_STUDY:
        text = form.get(f"{KEY}.{key}", "").strip()
        if not text:
            continue
        try:
            values[key] = protection.read_value(key, text)
        except WellnessError:
            problems[f"{KEY}.{key}"] = f"“{text}” is not possible. It must be {OF_STUDY[key].allowed}, or empty."
    try:
        protection.check_order(values)
    except WellnessError:
        limits = Wellness(**values)
        problems[f"{KEY}.soft_minutes"] = (
            f"People are told after {limits.soft_minutes} minutes, but stopped after {limits.hard_minutes}. They must "
            "be told first: write a smaller number here."
        )
    return values
