"""How a study protects people from the clips, as leads and commands set it: what it sets itself, and its changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from app.models import Study
from app.wellbeing import wellness
from app.wellbeing.wellness import KEY, Wellness
from app.wellbeing.wellness_values import NONE, OF_STUDY, WellnessError, read

DEFAULT = "default"  # how a value that is not set (any more) is written


def given(study: Study) -> dict[str, Any]:
    """Return what the study itself sets and what counts of it, so that wrong values go when others are set."""
    in_force = asdict(wellness.of_study(study))
    whole: Any = study.settings
    set_in = whole.get(KEY) if isinstance(whole, Mapping) else None
    set_here = set_in if isinstance(set_in, Mapping) else {}
    return {key: value for key, value in in_force.items() if key in set_here and OF_STUDY[key].accepts(set_here[key])}


def put(study: Study, values: Mapping[str, Any]) -> None:
    """Let the study set these values and no others. What else stands in its settings stays."""
    study.settings = {**(study.settings if isinstance(study.settings, dict) else {}), KEY: dict(values)}


def read_value(key: str, text: str) -> Any:
    """Return the value of a text.

    Raises
    ------
    WellnessError
        The text stands for no allowed value; the message says what is allowed.
    """
    try:
        return read(OF_STUDY[key], text)
    except ValueError:
        raise WellnessError(f"{KEY}.{key} is “{text}”, but it must be {OF_STUDY[key].allowed}.") from None


def check_order(values: Mapping[str, Any]) -> None:
    """Raise WellnessError if people would be stopped before they are told."""
    limits = Wellness(**values)
    soft, hard = limits.soft_minutes, limits.hard_minutes
    if soft is not None and hard is not None and soft > hard:
        raise WellnessError(
            f"{KEY}.soft_minutes is {soft} and {KEY}.hard_minutes {hard}, but people must be told before they are "
            f"stopped: set both, for example {KEY}.soft_minutes={max(1, hard - 15)} {KEY}.hard_minutes={hard}."
        )


def as_text(value: Any) -> str:
    """Write a value as `read_value` reads it."""
    if value is None:
        return NONE
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
