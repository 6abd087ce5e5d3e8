"""Which wellness values are allowed: in a study's settings, and in a person's own choices.

A rule reads a value from text (a command or a form) and says whether a value, also one that somebody wrote into the
database, is allowed. `allowed` completes the sentence "KEY is VALUE, but it must be ...".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DAY_MINUTES = 24 * 60
SUPPORT_LENGTH = 500  # characters
NONE = "none"  # how a value that is switched off is written


class WellnessError(Exception):
    """A value is not allowed. The message says which, and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    allowed: str
    accepts: Callable[[Any], bool]
    parse: Callable[[str], Any]  # raises ValueError


def read(rule: Rule, text: str) -> Any:
    """Return the value that the text stands for.

    Raises
    ------
    ValueError
        The text stands for no allowed value.
    """
    value = rule.parse(text.strip())
    if not rule.accepts(value):
        raise ValueError(text)
    return value


def _number(low: int, high: int, unit: str, *, whole: bool = True, optional: bool = False) -> Rule:
    kind: Any = int if whole else int | float

    def accepts(value: Any) -> bool:
        if value is None:
            return optional
        return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high

    def parse(text: str) -> Any:
        if optional and text == NONE:
            return None
        return int(text) if whole else float(text)

    allowed = f"a {'whole ' if whole else ''}number of {unit} from {low} to {high}"
    return Rule(allowed=allowed + (f", or {NONE}" if optional else ""), accepts=accepts, parse=parse)


def _flag() -> Rule:
    words = {"true": True, "false": False}

    def parse(text: str) -> bool:
        if text not in words:
            raise ValueError(text)
        return words[text]

    return Rule(allowed="true or false", accepts=lambda value: isinstance(value, bool), parse=parse)


def _text(length: int) -> Rule:
    def accepts(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value.strip()) <= length and value.isprintable()

    return Rule(allowed=f"a text of 1 to {length} characters in one line", accepts=accepts, parse=str)


def _address() -> Rule:
    """An address to click: never one that would run as a script."""
    pattern = re.compile(r"(https?://[^\s/]|mailto:[^\s@]+@)\S{1,300}")

    def accepts(value: Any) -> bool:
        return value is None or (isinstance(value, str) and pattern.fullmatch(value) is not None)

    allowed = f"an address that begins with https://, http:// or mailto:, or {NONE}"
    return Rule(allowed=allowed, accepts=accepts, parse=lambda text: None if text == NONE else text)


_FADE = _number(0, 5000, "milliseconds")
_FLAG = _flag()

# What a study may set: the fields of `Wellness`.
OF_STUDY = {
    "peak_cap_db": _number(-60, 0, "dBFS", whole=False),
    "loudness_lufs": _number(-60, -10, "LUFS", whole=False),
    "fade_in_ms": _FADE,
    "veil": _FLAG,
    "soft_minutes": _number(1, DAY_MINUTES, "minutes", optional=True),
    "hard_minutes": _number(1, DAY_MINUTES, "minutes", optional=True),
    "break_after_minutes": _number(5, 480, "minutes", optional=True),
    "support": _text(SUPPORT_LENGTH),
    "support_url": _address(),
}
# What a person may choose. `quieter_db` lowers both levels of the study. A limit is one more limit: never none.
OF_PERSON = {
    "veil": _FLAG,
    "fade_in_ms": _FADE,
    "quieter_db": _number(0, 40, "dB", whole=False),
    "break_after_minutes": _number(5, 480, "minutes"),
    "soft_minutes": _number(1, DAY_MINUTES, "minutes"),
    "hard_minutes": _number(1, DAY_MINUTES, "minutes"),
}
