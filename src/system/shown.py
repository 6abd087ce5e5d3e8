r"""Make text from outside safe for a terminal and for a log line. Everything that the pipeline shows passes here.

File names, output of other programs and payloads may hold characters that control a terminal, begin a new line in a
log, or change the order in which text is displayed. These functions replace such characters by Python's backslash
escapes: `\x1b`, `\u202e`. All other characters, of any script, stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

# The control characters C0 (with tab and line feed), DEL and C1; the marks that change the direction of writing; the
# line and paragraph separators; and single surrogates, which cannot be encoded.
FORBIDDEN = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_FORBIDDEN = re.compile(f"[{FORBIDDEN}]")


def one_line(text: str) -> str:
    """Return the text on one line, with all unsafe characters escaped."""
    return _FORBIDDEN.sub(lambda match: ascii(match[0])[1:-1], text)


def lines(text: str) -> str:
    """Escape each line of a text; keep the line feeds."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def shortened(text: str, limit: int) -> str:
    """Return the text on one line of at most `limit` characters; a text that was cut ends in "…"."""
    text = one_line(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def as_json(value: object, *, indent: int | None = None, default: Callable[[Any], object] | None = None) -> str:
    """Return JSON with the unsafe characters as JSON escapes, so that a program reads the original text."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=default)
    return "\n".join(_FORBIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", line) for line in text.split("\n"))
