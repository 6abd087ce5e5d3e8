"""Dead letters: what stands in `queue:failed`, and how a job is brought back from there.

A letter is one JSON object: `queue` and `payload` (or `payload_base64` when the bytes are not UTF-8) as they were,
`error` (a sentence), `error_class`, `permanent`, `attempts`, `interruptions`, `batch_id`, `clip`, `parked_s3_key` (the
clip, kept under `failed/` in S3), `worker`, `host`, `failed_at` (UTC). A letter that names no batch and no clip belongs
to the batch and clip that its payload names.

A letter whose clip is parked comes back as a job of `queue:transcribe` that names the parked object, so any GPU worker
can do it, also when the batch's scratch directory is gone. Every other letter comes back as the payload it was, to the
list it was in. If that list belongs to a host that is gone, no worker serves it: the letter stays (`HostGoneError`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import redis

from config import TRANSCRIBE, TRANSCRIBE_QUEUE, host_of
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
from jobs.payloads import TranscribeJob, add_field, read_batch_and_clip


def id_of(raw: bytes) -> str:
    """The id by which people name an entry of `queue:failed`, also a foreign one: the start of its SHA-256."""
    return hashlib.sha256(raw).hexdigest()[:10]


@dataclass(frozen=True)
class DeadLetter:
    """One entry of `queue:failed`; `raw` is the entry itself, and identifies it."""

    raw: bytes
    queue: str
    payload: bytes
    error: str
    error_class: str
    batch_id: str | None  # the batch of its clip or archive
    clip: str | None  # None also when a whole archive was given up
    counted: ClipRef | None  # the clip whose failure its batch has counted
    parked_s3_key: str | None
    fields: dict[str, Any]  # everything the entry says

    @property
    def id(self) -> str:
        return id_of(self.raw)

    @property
    def stage(self) -> Literal["unpack", "gpu"]:
        """Where the job failed."""
        return "unpack" if self.queue == UNPACK else "gpu"

    @property
    def of_archive(self) -> bool:
        """Whether a whole archive was given up, not one of its clips."""
        return self.queue == UNPACK and self.clip is None

    @classmethod
    def parse(cls, raw: bytes, scratch_root: Path) -> DeadLetter:
        """Read an entry; raises PayloadError when it is not a dead letter."""
        try:
            fields = json.loads(raw.decode())
            encoded = fields.get("payload_base64")
            payload = base64.b64decode(encoded, validate=True) if encoded else fields["payload"].encode()
            queue = _queue(fields["queue"])
            batch_id, clip = _optional_text(fields.get("batch_id")), _optional_text(fields.get("clip"))
            counted = ClipRef(batch_id, clip) if batch_id and clip else None
            if batch_id is None and clip is None:
                batch_id, clip = read_batch_and_clip(queue, payload, scratch_root)
            return cls(
                raw=raw,
                queue=queue,
                payload=payload,
                error=_text(fields["error"]),
                error_class=_text(fields["error_class"]),
                batch_id=batch_id,
                clip=clip,
                counted=counted,
                parked_s3_key=_optional_text(fields.get("parked_s3_key")),
                fields=fields,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise PayloadError(
                f"an entry of {FAILED} is not a dead letter ({type(error).__name__}: {error}); look at it with "
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
    """Make the entry for a job that is given up. `parked` is the S3 key of its clip under `failed/`."""
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
        self.scratch_root = scratch_root
        self._retry = script(client, "retry_letter")

    def __iter__(self) -> Iterator[bytes]:
        """Every entry as it stands now, the oldest first, as bytes; `DeadLetter.parse` reads them."""
        with mapped_redis_errors():
            yield from cast("list[bytes]", self._client.lrange(FAILED, 0, -1))

    def read(self) -> Iterator[DeadLetter]:
        """The entries that are dead letters."""
        for raw in self:
            with suppress(PayloadError):
                yield self.parse(raw)

    def parse(self, raw: bytes) -> DeadLetter:
        """Read an entry; raises PayloadError when it is not a dead letter."""
        return DeadLetter.parse(raw, self.scratch_root)

    def foreign(self) -> list[bytes]:
        """The entries that are not dead letters: a person put them there, or changed them."""
        found = []
        for raw in self:
            try:
                self.parse(raw)
            except PayloadError:
                found.append(raw)
        return found

    def of_batch(self, batch_id: str) -> list[bytes]:
        """The entries of the batch's clips and of its archive."""
        return [letter.raw for letter in self.read() if letter.batch_id == batch_id]

    def of_clips(self) -> dict[str, list[bytes]]:
        """Batch id -> the entries of its clips. After a new run of unpack each clip has a result or a new letter."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for letter in self.read():
            if letter.batch_id and not letter.of_archive:
                found[letter.batch_id].append(letter.raw)
        return found

    def archives(self) -> set[str]:
        """Ids of the batches whose archive was given up: a person decides about them."""
        return {letter.batch_id for letter in self.read() if letter.of_archive and letter.batch_id}

    def retry(self, letter: DeadLetter) -> bool:
        """Put the job back into its queue, with all its attempts; False when the letter is gone.

        A batch that is under way waits for the clip again. The counts of a batch that is complete are corrected when
        the clip has its results. Raises HostGoneError, and changes nothing, when no worker would take the job.
        """
        queue, payload = self._job(letter)
        host = host_of(queue) or ""
        batch_id, clip = (letter.counted.batch_id, letter.counted.clip) if letter.counted else ("-", "")
        keys = [FAILED, queue, *(batch_key(batch_id, name) for name in ("given_up", "failed", "pending")), FINISHING]
        keys.append(HOSTS_SEEN)
        with mapped_redis_errors():
            done = int(self._retry(keys=keys, args=[letter.raw, payload, clip, batch_id, host]))
        if done < 0:
            raise HostGoneError(host)
        return bool(done)

    def drop(self, entry: DeadLetter | bytes) -> bool:
        """Remove an entry; False when it is gone already. A clip that is parked in S3 stays there."""
        raw = entry if isinstance(entry, bytes) else entry.raw
        with mapped_redis_errors():
            return bool(self._client.lrem(FAILED, 1, cast("str", raw)))

    def _job(self, letter: DeadLetter) -> tuple[str, bytes]:
        if not (letter.parked_s3_key and letter.counted):
            return letter.queue, letter.payload
        if letter.queue.startswith(TRANSCRIBE):
            try:
                return TRANSCRIBE, add_field(letter.payload, "opus_s3_key", letter.parked_s3_key)
            except PipelineError:
                return letter.queue, letter.payload
        path = (self.scratch_root / letter.counted.batch_id / Path(letter.parked_s3_key).name).with_suffix(".opus")
        job = TranscribeJob(
            opus_path=path,
            batch_id=letter.counted.batch_id,
            original_filename=letter.counted.clip,
            opus_s3_key=letter.parked_s3_key,
        )
        return TRANSCRIBE, job.to_json()


def _queue(value: object) -> str:
    if not isinstance(value, str) or not (value == UNPACK or TRANSCRIBE_QUEUE.fullmatch(value)):
        raise ValueError("its queue is not one of the pipeline's")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a field that must be a string is not one")
    value.encode()  # halves of surrogate pairs cannot be written back
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)
