"""unpack: S3 archive -> `{SCRATCH_ROOT}/{batch_id}/*.opus` -> batch keys and the clips' jobs.

Claims `queue:unpack`, one archive at a time. For each: download, extract what is safe, convert every clip to Opus
16 kHz mono 32 kbps in parallel, record the clips in Postgres, remove archive and originals, and then, in one script,
set the batch's keys, push its jobs and acknowledge.

Promises: until that script has run nothing of the batch counts, and on failure its scratch directory is gone; after it,
the batch is the GPU workers'. A clip that cannot be read costs only itself: it is parked under `failed/` in S3, and a
dead letter says why. Clips that have results from an earlier run are not done again; a batch that is under way is not
begun twice.

Restart: an unpack job that was interrupted runs again from the start, on any host.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import scratch
from archives import Extraction, Limits, Member, extract
from audio import ConvertedClip, probe
from batches import Batches, BatchStart
from clip_metadata import MetadataProblemError, match, read_metadata
from config import Settings
from conversion import convert_all
from db import Database, NewClip
from errors import ArchiveError, AudioError, PermanentError
from job_queue import UNPACK, Claim, ClipRef, dead_letter
from payloads import TranscribeJob, UnpackJob, parse_unpack_job
from s3_utils import ObjectStore
from utils import event
from workers.base import main
from workers.jobs import BusyError, JobWorker

log = logging.getLogger(__name__)

SWEEP_S = 60.0  # scratch of batches that were finished elsewhere
ROOM_FACTOR = 3  # archive + originals + Opus files, as a multiple of the archive's size


@dataclass
class _Contents:
    """An archive's members, sorted."""

    clips: list[Member] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class _Converted:
    jobs: list[TranscribeJob] = field(default_factory=list)
    rows: list[NewClip] = field(default_factory=list)
    broken: list[tuple[Member, AudioError]] = field(default_factory=list)


class UnpackWorker(JobWorker):
    kind = "unpack"
    queues = (UNPACK,)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.db = Database(settings)
        self.s3 = ObjectStore(settings)
        self.batches = Batches(self.redis)
        self._next_sweep = 0.0

    def check_dependencies(self) -> None:
        self.db.check()
        self.s3.check()
        scratch.check_scratch(self.settings.scratch_root)

    def housekeeping(self) -> None:
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + SWEEP_S
        for batch_id in scratch.sweep(self.settings.scratch_root, self._is_over):
            event(log, logging.INFO, "scratch swept: the batch is over", batch=batch_id)

    def clip_of(self, claim: Claim) -> ClipRef | None:  # noqa: ARG002 -- an archive is no clip
        return None

    def process(self, claim: Claim) -> None:
        job = parse_unpack_job(claim.payload)
        with scratch.owned_directory(self.settings.scratch_root, job.batch_id) as directory:
            if directory is None:
                raise BusyError(f"another process of this host is unpacking {job.batch_id}")
            if self.batches.under_way(job.batch_id):
                self.done(claim)
                event(log, logging.WARNING, "batch is under way already; this job adds nothing", batch=job.batch_id)
                return
            try:
                started = self._unpack(claim, job, directory)
            except BaseException:  # whatever it was, a stop included: nothing of a batch that did not begin may stay
                shutil.rmtree(directory, ignore_errors=True)
                raise
            if not started:
                shutil.rmtree(directory, ignore_errors=True)

    def _unpack(self, claim: Claim, job: UnpackJob, directory: Path) -> bool:
        """-> whether the batch was started (another worker may have been faster)."""
        began = time.monotonic()
        scratch.empty(directory)
        contents = self._sort(job, self._fetch(job, directory))
        done = self.db.done_clips(job.batch_id)
        todo = [member for member in contents.clips if member.name not in done]
        converted = self._convert(job, todo, directory, contents.metadata)
        letters = [self._park(claim, job, member, error) for member, error in converted.broken]
        shutil.rmtree(directory / "originals")
        start = BatchStart(job, converted.jobs, len(contents.clips) - len(todo), letters)
        self.db.record_unpacked(job, self.name.host, total=start.total, clips=converted.rows, skipped=contents.skipped)
        answer = self.batches.start(self.queue, claim, start, self.settings.transcribe_queue)
        event(
            log,
            logging.INFO if answer == "ok" else logging.WARNING,
            "batch unpacked" if answer == "ok" else "batch was started by another worker; nothing added",
            batch=job.batch_id,
            clips=len(converted.jobs),
            done_before=start.done_before,
            broken=len(letters),
            skipped=len(contents.skipped),
            queue=self.settings.transcribe_queue,
            took_s=time.monotonic() - began,
        )
        return answer == "ok"

    def _fetch(self, job: UnpackJob, directory: Path) -> Extraction:
        size = self.s3.size(job.s3_key)
        scratch.require_room(directory, ROOM_FACTOR * size, f"batch {job.batch_id} ({size:,} bytes)")
        archive = directory / "archive"
        event(log, logging.INFO, "downloading", batch=job.batch_id, s3_key=job.s3_key, bytes=size)
        self.s3.download(job.s3_key, archive)
        self.stop_if_asked()
        limits = Limits(total_bytes=self.settings.max_archive_bytes, members=self.settings.max_archive_members)
        try:
            extraction = extract(archive, directory / "originals", limits)
        except ArchiveError as error:
            raise ArchiveError(f"{job.s3_key}: {error}") from error
        archive.unlink()
        self.stop_if_asked()
        return extraction

    def _sort(self, job: UnpackJob, extraction: Extraction) -> _Contents:
        contents = _Contents(skipped=[(skipped.name, skipped.reason) for skipped in extraction.skipped])
        for member in extraction.members:
            if member.kind == "metadata":
                contents.metadata = self._metadata(job, member)
            elif member.kind == "clip":
                contents.clips.append(member)
            elif member.kind == "sidecar":
                contents.skipped.append((member.name, "not audio by its name"))
            else:
                _probe_unknown(member, contents)
        for name, reason in contents.skipped:
            event(log, logging.INFO, "member skipped", batch=job.batch_id, member=name, reason=reason)
        if not contents.clips:
            raise ArchiveError(
                f"{job.s3_key} holds no audio file ({len(extraction.members)} members, {len(contents.skipped)} of no "
                "use); look into it, then drop the job, or put the right archive there and retry"
            )
        return contents

    def _metadata(self, job: UnpackJob, member: Member) -> Mapping[str, Mapping[str, Any]]:
        try:
            return read_metadata(member.path)
        except MetadataProblemError as error:  # the clips are worth more than the platform's notes on them
            event(log, logging.WARNING, "metadata not used", batch=job.batch_id, member=member.name, reason=error)
            return {}

    def _convert(
        self, job: UnpackJob, members: Sequence[Member], directory: Path, metadata: Mapping[str, Mapping[str, Any]]
    ) -> _Converted:
        converted = _Converted()
        paths = [(member.path, directory / f"{member.path.stem}.opus") for member in members]
        results = convert_all(
            paths,
            processes=self.settings.convert_processes,
            clip_timeout_s=self.settings.clip_timeout_s,
            max_clip_s=self.settings.max_clip_s,
            should_stop=self.stopping.is_set,
        )
        for index, result in results:
            member = members[index]
            facts = match(metadata, member.name)
            if isinstance(result, ConvertedClip):
                converted.jobs.append(
                    TranscribeJob(opus_path=paths[index][1], batch_id=job.batch_id, original_filename=member.name)
                )
                converted.rows.append(_row(member, result, facts))
            elif isinstance(result, AudioError):
                # On disk the clip has a number for a name; people know it by the one in the archive.
                error = AudioError(str(result).replace(member.path.name, member.name))
                converted.broken.append((member, error))
                converted.rows.append(NewClip(original_filename=member.name, error=str(error), platform_metadata=facts))
            else:
                raise result
        self.stop_if_asked()
        converted.jobs.sort(key=lambda clip: clip.opus_path)  # in the archive's order, whichever was converted first
        return converted

    def _park(self, claim: Claim, job: UnpackJob, member: Member, error: AudioError) -> bytes:
        key = f"failed/{job.batch_id}/{member.path.name}"
        self.s3.upload(member.path, key)
        event(
            log, logging.ERROR, "clip given up; it stands in queue:failed",
            batch=job.batch_id, clip=member.name, parked=key, reason=error,
        )  # fmt: skip
        return dead_letter(claim, error, worker=self.name, clip=ClipRef(job.batch_id, member.name), parked=key)

    def _is_over(self, batch_id: str) -> bool:
        return not self.batches.under_way(batch_id) and self.db.batch_finished(batch_id) is not False


def _probe_unknown(member: Member, contents: _Contents) -> None:
    try:
        probe(member.path)
    except PermanentError as error:
        contents.skipped.append((member.name, f"not audio: {error}"))
    else:
        contents.clips.append(member)


def _row(member: Member, clip: ConvertedClip, metadata: Mapping[str, Any] | None) -> NewClip:
    return NewClip(
        original_filename=member.name,
        duration_s=clip.duration_s,
        source_format=clip.source_format,
        source_bytes=clip.source_bytes,
        source_sha256=clip.source_sha256,
        platform_metadata=metadata,
    )


if __name__ == "__main__":
    main(UnpackWorker)
