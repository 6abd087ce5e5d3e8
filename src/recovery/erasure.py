"""Erase one clip everywhere in the pipeline, with a receipt of what went and what is left to do.

First the archive, so that no new run of unpack can bring the clip back; then its objects in S3 and its dead letters;
last its rows. An erasure that was cut off is done by the same call again: each step finds what the one before left.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import redis

from archives.cutting import cut
from db import AuditLog, ErasableClip, Erasures
from errors import MissingObjectError, RefusedError, RetryableError, UnknownError
from jobs.dead_letters import DeadLetter, DeadLetters
from jobs.queue_snapshot import standing_jobs
from jobs.s3_keys import parked_key, processed_key
from s3_utils import ObjectStore

Receipt = dict[str, Any]

LEFT = (
    "backups hold the clip until they expire; logs may hold its name until they are rotated",
    "scores of verdicts stay, without any text",
    "in the RA app: sudo ra-flask clips erase {audio_id}",
)


@dataclass(frozen=True)
class ErasurePlan:
    clip: ErasableClip
    objects: list[str]  # keys in S3
    letters: list[DeadLetter]
    unclear: list[str]  # parked objects of the batch that may be the clip's: nothing says whose they are


class Erasure:
    def __init__(
        self,
        client: redis.Redis,
        db: Erasures,
        s3: ObjectStore,
        letters: DeadLetters,
        audit: AuditLog,
        scratch: Path | None,
    ) -> None:
        self._client, self._db, self._s3, self._letters, self._audit = client, db, s3, letters, audit
        self._scratch = scratch

    def receipt(self, audio_id: int) -> Receipt | None:
        """The receipt of a clip that is erased already."""
        clip = self._clip(audio_id)
        return self._db.receipt(audio_id) if clip.erased_at else None

    def plan(self, audio_id: int) -> ErasurePlan:
        """Find what is to be erased. Changes nothing.

        Raises
        ------
        UnknownError
            There is no such clip.
        RefusedError
            A worker may be at work on it.
        """
        clip = self._clip(audio_id)
        jobs = [
            job
            for job in standing_jobs(self._client, self._letters.scratch_root)
            if job.batch_id == clip.batch_id and job.clip in {None, clip.original_filename}
        ]
        if clip.under_way or jobs:
            raise RefusedError(
                f"batch {clip.batch_id} of clip {audio_id} is under way, so a worker may hold the clip; wait until it "
                f"is complete, or cancel it (audio-pipeline batch cancel {clip.batch_id}), then erase the clip"
            )
        letters = [
            letter
            for letter in self._letters.read()
            if letter.batch_id == clip.batch_id and letter.clip == clip.original_filename
        ]
        parked = {letter.parked_s3_key for letter in letters if letter.parked_s3_key}
        unclear: list[str] = []
        for key in self._s3.keys(parked_key(clip.batch_id, "")):
            if key not in parked:
                (parked.add if self._is_upload(key, clip) else unclear.append)(key)
        known = {letter.parked_s3_key for letter in self._letters.read()}
        return ErasurePlan(
            clip, [*self._processed(clip), *sorted(parked)], letters, [key for key in unclear if key not in known]
        )

    def erase(self, plan: ErasurePlan, reason: str) -> Receipt:
        clip = plan.clip
        with self._audit.change(self._db.ACTION, str(clip.audio_id), 1, {"reason": reason}) as change:
            receipt: Receipt = {"audio_id": clip.audio_id, "batch": clip.batch_id, "reason": reason}
            receipt["archive"] = self._cut(clip)
            for key in plan.objects:
                self._s3.delete(key)
            for letter in plan.letters:
                self._letters.drop(letter)
            receipt |= {"objects": plan.objects, "dead_letters": len(plan.letters)}
            receipt["rows"] = self._db.empty(clip, _stem(clip.original_filename))
            receipt["at"] = datetime.now(UTC).isoformat(timespec="seconds")
            receipt["look_at"] = plan.unclear
            receipt["left"] = [line.format(audio_id=clip.audio_id) for line in LEFT]
            change.details["receipt"] = receipt
            change.affected = 1
        return receipt

    def _clip(self, audio_id: int) -> ErasableClip:
        clip = self._db.clip(audio_id)
        if clip is None:
            raise UnknownError(f"Postgres knows no clip {audio_id}; audio-pipeline batch show lists a batch's clips")
        return clip

    def _processed(self, clip: ErasableClip) -> Iterator[str]:
        """The clip's finished audio: where its row says, and what runs of other days have left."""
        keys = {clip.s3_opus_path} if clip.s3_opus_path else set()
        day, last = (
            clip.created_at.astimezone(UTC).date(),
            (clip.processed_at or clip.created_at).astimezone(UTC).date(),
        )
        while day <= last:
            keys.add(processed_key(clip.audio_id, day.isoformat()))
            day += timedelta(days=1)
        return (key for key in sorted(keys) if self._s3.stored_size(key) is not None)

    def _is_upload(self, key: str, clip: ErasableClip) -> bool:
        """Whether the parked object is the clip as it was uploaded."""
        if clip.source_sha256 is None or self._s3.stored_size(key) != clip.source_bytes:
            return False
        with tempfile.TemporaryDirectory(prefix="erase-") as folder:
            file = Path(folder) / "parked"
            self._s3.download(key, file)
            with file.open("rb") as data:
                return hashlib.file_digest(data, "sha256").hexdigest() == clip.source_sha256

    def _cut(self, clip: ErasableClip) -> dict[str, Any] | None:
        """Replace the archive in S3 by one without the clip; None when there is no archive."""
        if clip.archive_key is None:
            return None
        with tempfile.TemporaryDirectory(prefix="erase-", dir=self._scratch) as made:
            folder = Path(made)
            old, new = folder / "old.tar", folder / "new.tar"
            try:
                self._s3.download(clip.archive_key, old)
            except MissingObjectError:
                return {"key": clip.archive_key, "state": "it is not in S3 any more"}
            done = cut(old, new, clip.original_filename, folder)
            if new.exists():
                self._s3.upload(new, clip.archive_key, "application/x-tar")
                if self._s3.size(clip.archive_key) != new.stat().st_size:
                    raise RetryableError(f"{clip.archive_key} has not the size that was sent; erase the clip again")
            return {
                "key": clip.archive_key,
                "state": "written anew without the clip" if new.exists() else "the clip is not in it",
                "members": len(done.members),
                "metadata_rows": len(done.metadata),
                "unread_metadata": done.unread,
            }


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix else name
