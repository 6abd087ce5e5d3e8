"""The Range header of RFC 9110, as far as a player needs it: one range of bytes."""

from __future__ import annotations

import re

# At most 18 digits: larger than any object, smaller than what S3 chokes on.
_SINGLE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')


def single_range(header: str | None) -> str | None:
    """The range to ask S3 for, or None: then the whole object is sent.

    Malformed headers, other units and several ranges at once are answered with the whole object (200), which
    RFC 9110 allows, rather than with multipart bodies that no audio player asks for.
    """
    match = _SINGLE.fullmatch(header or "")
    if match is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if first and last and int(last) < int(first):
        return None
    return f"bytes={first}-{last}"


def is_empty_suffix(asked: str) -> bool:
    """`bytes=-0` asks for the last nothing, which no server can send."""
    return re.fullmatch(r"bytes=-0+", asked) is not None


def strong_etag(value: str) -> bool:
    """Whether an If-Range value is a strong entity tag; dates and weak tags are treated as a mismatch."""
    return _ETAG.fullmatch(value) is not None
