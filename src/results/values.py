"""Values as Postgres takes them: what it would refuse is left out or escaped, since it comes from strangers' files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime

_YEARS = (1970, 2999)  # of a time that a payload notes: psycopg2 cannot read back what a zone moves out of 1 to 9999


def json_text(value: object) -> str:
    return json.dumps(_json_safe(value), ensure_ascii=False, default=str)


def _json_safe(value: object) -> object:
    """Without what Postgres refuses in JSON: NUL, halves of surrogate pairs, NaN and infinities."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {storable(str(key)): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(item) for item in value]
    return value


def storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "backslashreplace").decode()


def time_or_none(text: str | None) -> datetime | None:
    """An ISO time from a payload; what cannot be read is left out: it is a note, not worth a batch."""
    try:
        parsed = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if parsed is None or not _YEARS[0] <= parsed.year <= _YEARS[1]:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
