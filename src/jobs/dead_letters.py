"""Dead letters: what stands in `queue:failed`, and how a job is brought back from there.

A letter is one JSON object: `queue` and `payload` (or `payload_base64` when the bytes are no UTF-8) as they were,
`error` (a sentence), `error_class`, `permanent`, `attempts`, `interruptions`, `batch_id`, `clip`, `parked_s3_key` (the
clip, kept under `failed/` in S3), `worker`, `host`, `failed_at` (UTC).

A letter with a parked clip comes back as a job of `queue:transcribe` that names the parked object, so any GPU worker
can do it, whether the batch's scratch is still there or not. Every other letter comes back as the bytes it was, to the
list it was in; when that is the list of a host that is gone, which no worker serves, it stays where it is
(`HostGoneError`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import redis

from config import TRANSCRIBE
from errors import HostGoneError, PayloadError, PermanentError, PipelineError
from jobs.job_queue import (
    FAILED,
    FINISHING,
    HOSTS_SEEN,
    UNPACK,
    Claim,
    ClipRef,
    WorkerName,
    batch_key,
    mapped_redis_errors,
    script,
)
from jobs.payloads import TranscribeJob, add_field
from jobs.queue_snapshot import read_batch_and_clip

_QUEUE = re.compile(rf"{UNPACK}|{TRANSCRIBE}(:[A-Za-z0-9._-]+)?")


def id_of(raw: bytes) -> str:
    """Names an entry of `queue:failed` to people, whatever it is: the start of its SHA-256."""
    return hashlib.sha256(raw).hexdigest()[:10]


@dataclass(frozen=True)
class DeadLetter:
    """One entry of `queue:failed`; `raw` is the entry itself, which names it."""

    raw: bytes
    queue: str
    payload: bytes
    error: str
    error_class: str
    batch_id: str | None
    clip: str | None
    parked_s3_key: str | None
    fields: dict[str, Any]  # everything the entry says

    @property
    def id(self) -> str:
        return id_of(self.raw)

    @property
    def batch(self) -> str | None:
        """The batch that it is of: its clip's, or its archive's."""
        return self.batch_id or read_batch_and_clip(self.payload)[0]

    @property
    def of_archive(self) -> bool:
        """Whether a whole archive was given up, not one of its clips."""
        return self.queue == UNPACK and self.clip is None

    @classmethod
    def parse(cls, raw: bytes) -> DeadLetter:
        """Read an entry; raises PayloadError when it is none of ours."""
        try:
            fields = json.loads(raw.decode())
            encoded = fields.get("payload_base64")
            payload = base64.b64decode(encoded, validate=True) if encoded else fields["payload"].encode()
            return cls(
                raw=raw,
                queue=_queue(fields["queue"]),
                payload=payload,
                error=_text(fields["error"]),
                error_class=_text(fields["error_class"]),
                batch_id=_optional_text(fields.get("batch_id")),
                clip=_optional_text(fields.get("clip")),
                parked_s3_key=_optional_text(fields.get("parked_s3_key")),
                fields=fields,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise PayloadError(
                f"an entry of {FAILED} is no dead letter ({type(error).__name__}: {error}); look at it with "
                f"redis-cli LRANGE {FAILED} 0 -1"
            ) from error


def write(
    claim: Claim,
    error: BaseException,
    *,
    worker: WorkerName,
    clip: ClipRef | None = None,
    parked: str | None = None,
) -> bytes:
    """The entry for a job that is given up. `parked` is the S3 key under `failed/` that keeps its clip."""
    try:
        raw = {"payload": claim.payload.decode("utf-8")}
    except UnicodeDecodeError:
        raw = {"payload_base64": base64.b64encode(claim.payload).decode()}
    record = {
        "queue": claim.queue,
        **raw,
        "error_class": type(error).__name__,
        "error": str(error).encode("utf-8", "backslashreplace").decode(),  # it may quote a file name of any bytes
        "permanent": isinstance(error, PermanentError),
        "attempts": claim.failures + 1,
        "interruptions": claim.interruptions,
        "batch_id": clip.batch_id if clip else None,
        "clip": clip.clip if clip else None,
        "parked_s3_key": parked,
        "worker": str(worker),
        "host": worker.host,
        "failed_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(record, ensure_ascii=False).encode()


class DeadLetters:
    def __init__(self, client: redis.Redis, scratch_root: Path) -> None:
        self._client = client
        self._scratch_root = scratch_root
        self._retry = script(client, "retry_letter")

    def __iter__(self) -> Iterator[bytes]:
        """Every entry as it stands now, the oldest first, as bytes; `DeadLetter.parse` reads them."""
        with mapped_redis_errors():
            yield from cast("list[bytes]", self._client.lrange(FAILED, 0, -1))

    def read(self) -> Iterator[DeadLetter]:
        """The entries that are letters of ours."""
        for raw in self:
            try:
                yield DeadLetter.parse(raw)
            except PayloadError:
                continue

    def foreign(self) -> list[bytes]:
        """The entries that are none: somebody has put them there, or changed them."""
        found = []
        for raw in self:
            try:
                DeadLetter.parse(raw)
            except PayloadError:
                found.append(raw)
        return found

    def of_batch(self, batch_id: str) -> list[bytes]:
        """The batch's entries as they stand: its clips', and its archive's."""
        return [letter.raw for letter in self.read() if letter.batch == batch_id]

    def of_clips(self) -> dict[str, list[bytes]]:
        """Batch -> the entries of its clips, which a new run of unpack makes anew, or gives results."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for letter in self.read():
            if letter.batch and not letter.of_archive:
                found[letter.batch].append(letter.raw)
        return found

    def archives(self) -> set[str]:
        """Batches whose archive itself stands here: a person decides about them."""
        return {letter.batch for letter in self.read() if letter.of_archive and letter.batch}

    def retry(self, letter: DeadLetter) -> bool:
        """Put the job back, with all its attempts; False when the letter is gone.

        A batch that is still under way waits for the clip again; for one that is complete, its counts are corrected
        when the clip has its results. Raises HostGoneError, and changes nothing, when nobody would take the job.
        """
        queue, payload = self._job(letter)
        host = queue.removeprefix(TRANSCRIBE).removeprefix(":") if queue.startswith(TRANSCRIBE) else ""
        batch_id = letter.batch_id or "-"
        keys = [FAILED, queue, *(batch_key(batch_id, what) for what in ("given_up", "failed", "pending")), FINISHING]
        keys.append(HOSTS_SEEN)
        with mapped_redis_errors():
            done = int(self._retry(keys=keys, args=[letter.raw, payload, letter.clip or "", batch_id, host]))
        if done < 0:
            raise HostGoneError(host)
        return bool(done)

    def drop(self, entry: DeadLetter | bytes) -> bool:
        """Forget an entry; False when it is gone already. What is parked in S3 stays."""
        raw = entry if isinstance(entry, bytes) else entry.raw
        with mapped_redis_errors():
            return bool(self._client.lrem(FAILED, 1, cast("str", raw)))

    def _job(self, letter: DeadLetter) -> tuple[str, bytes]:
        if not (letter.parked_s3_key and letter.clip and letter.batch_id):
            return letter.queue, letter.payload
        if letter.queue.startswith(TRANSCRIBE):
            try:
                return TRANSCRIBE, add_field(letter.payload, "opus_s3_key", letter.parked_s3_key)
            except PipelineError:
                return letter.queue, letter.payload
        path = (self._scratch_root / letter.batch_id / Path(letter.parked_s3_key).name).with_suffix(".opus")
        job = TranscribeJob(
            opus_path=path,
            batch_id=letter.batch_id,
            original_filename=letter.clip,
            opus_s3_key=letter.parked_s3_key,
        )
        return TRANSCRIBE, job.to_json()


def _queue(value: object) -> str:
    if not isinstance(value, str) or not _QUEUE.fullmatch(value):
        raise ValueError("its queue is none of ours")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a field that must be a string is none")
    value.encode()  # halves of surrogate pairs cannot be written back
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)
