"""The part of the Range header (RFC 9110) that an audio player needs: one range of bytes."""

from __future__ import annotations

import re

# At most 18 digits: enough for every object. S3 servers fail on larger numbers.
_SINGLE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')


def single_range(header: str | None) -> str | None:
    """Return the range to request from S3, or None to send the whole object.

    Malformed headers, other units and several ranges in one header get the whole object (status 200). RFC 9110 allows
    this, and no audio player asks for a multipart answer.
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
    """Whether the header asks for the last 0 bytes (`bytes=-0`). No server can send that range."""
    return re.fullmatch(r"bytes=-0+", asked) is not None


def strong_etag(value: str) -> bool:
    """Whether an If-Range value is a strong entity tag. Dates and weak tags count as a mismatch."""
    return _ETAG.fullmatch(value) is not None
