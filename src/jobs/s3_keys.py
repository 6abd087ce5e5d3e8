"""The keys of objects in S3: what each kind is named, and whose a key is.

| key | object |
|---|---|
| `archives/{batch_id}.tar` | an archive, whatever its compression; it stays after the batch is complete |
| `processed/{YYYY-MM-DD}/{audio_id}.opus` | a finished clip, by the UTC day |
| `failed/{batch_id}/{file}` | a clip that is parked with its dead letter |
"""

from __future__ import annotations

import re

from jobs.payloads import BATCH_ID

ARCHIVES = "archives/"
_ARCHIVE = re.compile(rf"{ARCHIVES}({BATCH_ID.pattern})\.tar")


def archive_key(batch_id: str) -> str:
    return f"{ARCHIVES}{batch_id}.tar"


def batch_of_archive(key: str) -> str | None:
    """The batch whose archive lies there; None when the key is not one of ours."""
    match = _ARCHIVE.fullmatch(key)
    return match[1] if match else None


def processed_key(audio_id: int, day: str) -> str:
    """`day` is the UTC day, YYYY-MM-DD."""
    return f"processed/{day}/{audio_id}.opus"


def parked_key(batch_id: str, file: str) -> str:
    return f"failed/{batch_id}/{file}"
