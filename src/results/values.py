"""Values as Postgres takes them. They come from untrusted files; what Postgres refuses is left out or escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime

_YEARS = (1970, 2999)  # accepted in payloads: psycopg2 cannot read years that a time zone moves below 1 or above 9999


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
    """An ISO time from a payload; None when it cannot be read, since no batch should fail for a wrong time."""
    try:
        parsed = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if parsed is None or not _YEARS[0] <= parsed.year <= _YEARS[1]:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
