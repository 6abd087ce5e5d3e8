"""The jobs in the queues: what their JSON must say, one sentence for each way it can be wrong, and whose job each is.

Operators write these by hand, so unknown fields are kept and everything that can be derived may be left out. The two
`parse_...` functions judge a payload: workers call them. `read_batch_and_clip` only asks which batch and clip a payload
belongs to: all code that lists, removes or counts jobs calls it. It gives the parser's answer for every payload that
the parser accepts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import PayloadError
from jobs.job_queue import UNPACK

MAX_PAYLOAD_BYTES = 1_000_000  # a job has a few hundred bytes; what is larger is not a job
BATCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # becomes a directory name and part of Redis keys
MAX_NAME_BYTES = 1000  # of a clip's name in UTF-8: it stands in a database index, whose rows end at 2,700 bytes
MAX_PART_BYTES = 255  # of one part of a path: file systems refuse more
MAX_KEY_BYTES = 1024  # the limit of S3
MAX_AUDIO_ID = 2**53  # exact in every JSON reader, and far below the end of the sequence
MANUAL_BATCH = "manual"  # clips that an operator injects from outside any batch's directory


@dataclass(frozen=True, kw_only=True)
class UnpackJob:
    batch_id: str
    s3_key: str
    archive_name: str | None = None  # `original_filename` in the payload
    transferred_at: str | None = None

    def to_json(self) -> bytes:
        fields = {
            "batch_id": self.batch_id,
            "s3_key": self.s3_key,
            "original_filename": self.archive_name,
            "transferred_at": self.transferred_at,
        }
        return _dump({name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class TranscribeJob:
    opus_path: Path
    batch_id: str
    original_filename: str  # of the clip
    audio_id: int | None = None
    opus_s3_key: str | None = None  # taken instead of the file at `opus_path`; any audio format

    def to_json(self) -> bytes:
        fields = {
            "batch_id": self.batch_id,
            "opus_path": str(self.opus_path),
            "original_filename": self.original_filename,
            "audio_id": self.audio_id,
            "opus_s3_key": self.opus_s3_key,
        }
        return _dump({name: value for name, value in fields.items() if value is not None})


def parse_unpack_job(raw: bytes) -> UnpackJob:
    """Read a job of `queue:unpack`; raises PayloadError."""
    fields = _load(raw, example='{"batch_id": "test-001", "s3_key": "archives/test-001.tar"}')
    return UnpackJob(
        batch_id=_batch_id(_required(fields, "batch_id", str)),
        s3_key=_s3_key(_required(fields, "s3_key", str), "s3_key"),
        archive_name=_optional_text(fields, "original_filename"),
        transferred_at=_optional_text(fields, "transferred_at"),
    )


def parse_transcribe_job(raw: bytes, scratch_root: Path) -> TranscribeJob:
    """Read a job of `queue:transcribe`; raises PayloadError.

    `opus_path` must lie under `scratch_root`. A missing `batch_id` is the directory there that holds the file; a
    missing `original_filename` is the file's name.
    """
    fields = _load(raw, example=f'{{"opus_path": "{scratch_root}/test-001/audio.opus"}}')
    path, inside = _scratch_path(_required(fields, "opus_path", str), scratch_root)
    batch_id = fields.get("batch_id")
    if batch_id is None:
        batch_id = _batch_of_path(inside)
    key = _optional_text(fields, "opus_s3_key")
    audio_id = fields.get("audio_id")
    if audio_id is not None and (
        isinstance(audio_id, bool) or not isinstance(audio_id, int) or not 0 < audio_id < MAX_AUDIO_ID
    ):
        raise PayloadError(
            f"audio_id is {_shorten(repr(audio_id))}, but must be a whole number above 0, or be left out"
        )
    name = _optional_text(fields, "original_filename") or path.name
    if len(name.encode()) > MAX_NAME_BYTES:
        raise PayloadError(f"original_filename has {len(name.encode())} bytes, but at most {MAX_NAME_BYTES} are kept")
    return TranscribeJob(
        opus_path=path,
        batch_id=_batch_id(batch_id),
        original_filename=name,
        audio_id=audio_id,
        opus_s3_key=None if key is None else _s3_key(key, "opus_s3_key"),
    )


def read_batch_and_clip(queue: str, payload: bytes, scratch_root: Path) -> tuple[str | None, str | None]:
    """-> (batch id, clip) of a job of `queue`, None for what the payload does not name; never raises.

    The job of an archive has no clip. A payload that the parser refuses may still name its batch or its clip.
    """
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(fields, dict):
        return None, None
    batch_id = _text_or_none(fields, "batch_id")
    if queue == UNPACK:
        return batch_id, None
    clip = _text_or_none(fields, "original_filename")
    if fields.get("batch_id") is None or fields.get("original_filename") is None:
        with suppress(PayloadError):
            path, inside = _scratch_path(_required(fields, "opus_path", str), scratch_root)
            batch_id = _batch_of_path(inside) if fields.get("batch_id") is None else batch_id
            clip = path.name if fields.get("original_filename") is None else clip
    return batch_id, clip


def probe_job(nonce: str) -> bytes:
    """A job that makes a GPU worker try every step of its work; see `workers/probe.py`."""
    return _dump({"probe": nonce})


def parse_probe(raw: bytes) -> str | None:
    """The nonce of a probe, or None when the job is a clip's, or unreadable."""
    try:
        fields = _load(raw, example="{}")
    except PayloadError:
        return None
    nonce = fields.get("probe")
    return nonce if len(fields) == 1 and isinstance(nonce, str) and BATCH_ID.fullmatch(nonce) else None


def add_field(raw: bytes, name: str, value: str) -> bytes:
    """The payload with one field added; raises PayloadError when it is not a JSON object.

    All other bytes stay as they were, because numbers could change if the JSON were written again. When the field was
    there already, readers take the last one.
    """
    fields = _load(raw, example="{}")
    if fields.get(name) == value:
        return raw
    separator = b", " if fields else b""
    return raw.rstrip().removesuffix(b"}") + separator + json.dumps({name: value}).encode().removeprefix(b"{")


def _load(raw: bytes, *, example: str) -> dict[str, Any]:
    if len(raw) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"the payload is {len(raw)} bytes long, but at most {MAX_PAYLOAD_BYTES} are read")
    try:
        fields = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise PayloadError(
            f"the payload is not UTF-8 text (byte {error.start}); expected JSON like {example}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"the payload is not JSON ({_brief(error)}); expected something like {example}") from error
    if not isinstance(fields, dict):
        raise PayloadError(f"the payload is a JSON {_kind(fields)}, but must be an object like {example}")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _required(fields: dict[str, Any], name: str, kind: type) -> Any:
    if name not in fields:
        raise PayloadError(
            f"the field {name!r} is missing; the payload has {_shorten(str(sorted(fields) or 'no fields'))}"
        )
    if not isinstance(fields[name], kind):
        raise PayloadError(f"{name} is a JSON {_kind(fields[name])}, but must be a string")
    return fields[name]


def _optional_text(fields: dict[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else _text(_required(fields, name, str), name)


def _text(value: str, name: str) -> str:
    if not value.strip():
        raise PayloadError(f"{name} is empty")
    if len(value) > 1024:
        raise PayloadError(f"{name} is {len(value)} characters long, but at most 1024 are read")
    if "\0" in value or _has_surrogate(value):
        raise PayloadError(f"{name} holds a character that no database stores (NUL or half of a surrogate pair)")
    return value


def _text_or_none(fields: dict[str, Any], name: str) -> str | None:
    """The field if it is text that Redis and Postgres can store."""
    try:
        return _optional_text(fields, name)
    except PayloadError:
        return None


def _s3_key(value: str, name: str) -> str:
    # S3 may answer a key that is too long with an error that means "down", and the worker would wait. The last part
    # becomes the name of a file, to which boto3 adds a suffix while it is fetched.
    last = Path(_text(value, name)).name
    if len(value.encode()) > MAX_KEY_BYTES or last in {"", ".."} or len(last.encode()) > MAX_PART_BYTES - 15:
        raise PayloadError(f"{name} is {_shorten(repr(value))}, which is not the key of a file, or is too long for one")
    return value


def _batch_id(value: object) -> str:
    if not isinstance(value, str) or not BATCH_ID.fullmatch(value):
        raise PayloadError(
            f"batch_id is {_shorten(repr(value))}, but must be letters, digits, '.', '_' and '-', at most 128, "
            "for example 20250622-143052-a1b2c3"
        )
    return value


def _scratch_path(value: str, scratch_root: Path) -> tuple[Path, Path]:
    """-> (the resolved file, its path inside the scratch directory)."""
    path = Path(_text(value, "opus_path"))
    if len(os.fsencode(path)) > 1024 or any(len(os.fsencode(part)) > MAX_PART_BYTES for part in path.parts):
        raise PayloadError(f"opus_path is {_shorten(repr(value))}, which is longer than any file's path here")
    try:
        resolved = path.resolve()
        return resolved, resolved.relative_to(scratch_root.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise PayloadError(
            f"opus_path is {_shorten(repr(value))}, but must lie under SCRATCH_ROOT, here {scratch_root}"
        ) from error


def _batch_of_path(inside: Path) -> str:
    """The batch of a clip whose job names none: the directory under the scratch root that holds it."""
    return inside.parts[0] if len(inside.parts) > 1 else MANUAL_BATCH


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def _has_surrogate(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


_KINDS: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda value: value is None, "null"),
    (lambda value: isinstance(value, bool), "boolean"),
    (lambda value: isinstance(value, (int, float)), "number"),
    (lambda value: isinstance(value, str), "string"),
    (lambda value: isinstance(value, list), "array"),
)


def _kind(value: object) -> str:
    return next((name for test, name in _KINDS if test(value)), "object")


def _brief(error: BaseException) -> str:
    return _shorten(str(error) or type(error).__name__)


def _shorten(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
