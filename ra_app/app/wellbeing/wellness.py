"""How people are protected from the clips: the values in force for one person in one study, and their minutes of a day.

The defaults are those of `Wellness`. A study may set others (`ra_studies.settings`, key "wellness"), and each person
may choose (`ra_preferences`): quieter sound, earlier breaks and smaller limits than the study's, never the reverse.
Whether the text is covered and how sound fades in is the person's own choice alone. A wrong value in the database
counts as not set and is logged once, because nobody must be kept from work, or from protection, by a slip.

Days are UTC days by the clock of Postgres, as on the personal page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import Any, Literal

import sqlalchemy as sa
from flask import current_app

from app.models import Exposure, Member, Preferences, Study, db
from app.state import state
from app.wellbeing import wellbeing_record
from app.wellbeing.wellness_values import OF_PERSON, OF_STUDY, Rule

KEY = "wellness"  # in a study's settings
MINUTE_MS = 60_000
SUPPORT = (
    "If a clip stays with you, talk to your lead researcher: it is part of their work, and they know whom else you can "
    "turn to. You may pass on any clip, and you need not give a reason."
)


@dataclass(frozen=True, kw_only=True)
class Wellness:
    peak_cap_db: float = -12  # dBFS; no peak is played louder than this
    loudness_lufs: float = -23  # to which clips are brought, as far as the cap allows
    fade_in_ms: int = 400
    veil: bool = True  # the text is covered until it is asked for
    soft_minutes: int | None = 90  # heard in a day: from here on the app says so
    hard_minutes: int | None = None  # heard in a day: from here on nobody gets a new clip
    break_after_minutes: int | None = 45  # at work without a break; then one is proposed
    support: str = SUPPORT
    support_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Budget:
    heard_ms: int  # today
    state: Literal["within", "soft", "hard"]
    soft_minutes: int | None
    hard_minutes: int | None

    @property
    def used_up(self) -> bool:
        return self.state == "hard"


def of(study: Study, user_id: int) -> Wellness:
    """Return the values in force for this person in this study."""
    return _with_choices(of_study(study), choices(user_id))


def of_studies(user_id: int | None = None) -> Wellness:
    """Return the strictest values of all open studies.

    If a person is named: of those in which they take part, with their own choices.

    Minutes are counted over all studies, so the limits of a day are these. The words of support are those of the first
    study that has its own.
    """
    open_ones = sa.select(Study).where(Study.state == "open").order_by(Study.study_id)
    if user_id is not None:
        member = sa.exists().where(Member.study_id == Study.study_id, Member.user_id == user_id)
        open_ones = open_ones.where(sa.or_(Study.everybody, member))
    strictest = _strictest([of_study(study) for study in db.session.scalars(open_ones)])
    return strictest if user_id is None else _with_choices(strictest, choices(user_id))


def of_study(study: Study) -> Wellness:
    """Return the values of this study; the default for what it does not set or sets wrongly."""
    whole: Any = study.settings
    given = whole.get(KEY, {}) if isinstance(whole, Mapping) else whole
    return Wellness(**_allowed(given, OF_STUDY, f"Study “{study.name}”: {KEY}"))


def choices(user_id: int) -> dict[str, Any]:
    """Return what this person has chosen: a part of the keys of `OF_PERSON`."""
    content = db.session.scalar(sa.select(Preferences.content).where(Preferences.user_id == user_id))
    return {} if content is None else _allowed(content, OF_PERSON, f"The choices of user {user_id}: content")


def heard_ms(user_id: int, days: int = 1) -> int:
    """Return what this person has heard in this many days, today included, in milliseconds."""
    total = sa.select(sa.cast(sa.func.sum(Exposure.heard_ms), sa.BigInteger))
    return db.session.scalar(total.where(Exposure.user_id == user_id, Exposure.at >= since(days))) or 0


def since(days: int) -> sa.ColumnElement[datetime]:
    """Return the moment when this many days began, today included."""
    today = sa.func.date_trunc("day", sa.func.now(), "UTC")
    return today - sa.func.make_interval(0, 0, 0, days - 1)


def budget(user_id: int, wellness: Wellness) -> Budget:
    """Return how far this person's minutes of today go, measured by these limits. Changes nothing."""
    heard = heard_ms(user_id)
    soft, hard = wellness.soft_minutes, wellness.hard_minutes
    reached: Literal["within", "soft", "hard"] = "within"
    if hard is not None and heard >= hard * MINUTE_MS:
        reached = "hard"
    elif soft is not None and heard >= soft * MINUTE_MS:
        reached = "soft"
    return Budget(heard_ms=heard, state=reached, soft_minutes=soft, hard_minutes=hard)


def may_claim(user_id: int) -> Budget:
    """Return today's budget of somebody who asks for a new clip: if it is `used_up`, they must not get one.

    Records once a day that a limit was reached, and commits then. So ask before anything is locked.
    """
    found = budget(user_id, of_studies(user_id))
    if found.state != "within":
        limits = {"soft_minutes": found.soft_minutes, "hard_minutes": found.hard_minutes}
        wellbeing_record.note_limit(user_id, f"{found.state}-budget", heard_ms=found.heard_ms, **limits)
        db.session.commit()
    return found


def day_ends(now: datetime) -> str:
    """Say when the minutes of a day begin to be counted anew."""
    hours = round((24 * 3600 - (now - datetime.combine(now.date(), time(), UTC)).total_seconds()) / 3600)
    left = "in less than an hour" if hours < 1 else f"in about {hours} hour{'s' if hours > 1 else ''}"
    return f"at midnight UTC, {left}"


def least(*limits: int | None) -> int | None:
    """Return the smallest of these limits. None is no limit."""
    return min((limit for limit in limits if limit is not None), default=None)


def _with_choices(wellness: Wellness, chosen: Mapping[str, Any]) -> Wellness:
    quieter = chosen.get("quieter_db", 0)
    return replace(
        wellness,
        peak_cap_db=wellness.peak_cap_db - quieter,
        loudness_lufs=wellness.loudness_lufs - quieter,
        fade_in_ms=chosen.get("fade_in_ms", wellness.fade_in_ms),
        veil=chosen.get("veil", wellness.veil),
        soft_minutes=least(wellness.soft_minutes, chosen.get("soft_minutes")),
        hard_minutes=least(wellness.hard_minutes, chosen.get("hard_minutes")),
        break_after_minutes=least(wellness.break_after_minutes, chosen.get("break_after_minutes")),
    )


def _strictest(found: list[Wellness]) -> Wellness:
    found = found or [Wellness()]
    support = next((each for each in found if each.support != SUPPORT or each.support_url), found[0])
    return Wellness(
        peak_cap_db=min(each.peak_cap_db for each in found),
        loudness_lufs=min(each.loudness_lufs for each in found),
        fade_in_ms=max(each.fade_in_ms for each in found),
        veil=any(each.veil for each in found),
        soft_minutes=least(*(each.soft_minutes for each in found)),
        hard_minutes=least(*(each.hard_minutes for each in found)),
        break_after_minutes=least(*(each.break_after_minutes for each in found)),
        support=support.support,
        support_url=support.support_url,
    )


def _allowed(given: Any, rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    """Return what the rules allow of values that stand in the database. Log what they do not."""
    if not isinstance(given, Mapping):
        _log_once(f"{where} is {given!r}, but it must be an object", f"with keys of {_words(rules)}")
        return {}
    for key in given:
        if key not in rules:
            _log_once(f"{where}.{key} is not known", f"known are {_words(rules)}")
        elif not rules[key].accepts(given[key]):
            _log_once(f"{where}.{key} is {given[key]!r}", f"but it must be {rules[key].allowed}; it counts as not set")
    return {key: value for key, value in given.items() if key in rules and rules[key].accepts(value)}


def _words(rules: Mapping[str, Rule]) -> str:
    return ", ".join(rules)


def _log_once(problem: str, advice: str) -> None:
    """Log this problem, but not again in this process: pages read the settings at each request."""
    logged = state().logged
    if problem not in logged:
        logged.add(problem)
        current_app.logger.warning("%s, %s", problem, advice)
