r"""Text from outside, made safe for a terminal and for a log line. The one rule, for everything that is shown.

Names of files, answers of other programs and payloads may hold characters that are commands to a terminal, that begin a
new line in a log, or that show text in another order than it has. They stand as backslash escapes, as Python writes
them: `\x1b`, `\u202e`. Everything else stays as it is, in any script.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

# C0 with tab and line feed, DEL and C1; marks, embeddings, overrides and isolates that turn the direction of writing;
# the separators of lines and paragraphs; and halves of surrogate pairs, which cannot be written at all.
FORBIDDEN = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_FORBIDDEN = re.compile(f"[{FORBIDDEN}]")


def one_line(text: str) -> str:
    """The text on one line, without any character that commands a terminal."""
    return _FORBIDDEN.sub(lambda match: ascii(match[0])[1:-1], text)


def lines(text: str) -> str:
    """The same for text of several lines, whose line feeds are ours and stay."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def shortened(text: str, limit: int) -> str:
    """The text on one line, of at most `limit` characters; what is cut off leaves a mark."""
    text = one_line(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def as_json(value: object, *, indent: int | None = None, default: Callable[[Any], object] | None = None) -> str:
    """JSON with the same characters as JSON's own escapes, so that programs read what there was."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=default)
    return "\n".join(_FORBIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", line) for line in text.split("\n"))
