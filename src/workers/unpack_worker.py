"""unpack: S3 archive -> `{SCRATCH_ROOT}/{batch_id}/*.opus` -> batch keys and the clips' jobs.

The worker claims one archive of `queue:unpack` at a time, and only while scratch has room for it and fewer than
BACKLOG_CLIPS clips wait for transcription. While an archive waits for room, some smaller ones may pass it
(`next_archive.py`). For each archive the worker downloads it, extracts the safe members, converts every clip to Opus
16 kHz mono 32 kbps in parallel, records the clips in Postgres, and removes the archive and the originals. Then one
script sets the batch's keys, pushes its jobs and acknowledges the unpack job.

Promises: before that script has run, the batch does not exist for the GPU workers, and after a failure its scratch
directory is removed. A clip that cannot be read does not stop the others: it is parked under `failed/` in S3, and a
dead letter holds the reason. Clips that have all wanted results (`results/wanted.py`) are not processed again. A batch
that is under way is not started twice. A run that another one has replaced (this worker was paused and seemed dead)
records nothing in Postgres or Redis.

Restart: an unpack job that was interrupted runs again from the start, on any host.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from archives.clip_metadata import ClipMetadata, clip_metadata
from archives.extract import Extraction, Limits, Member, extract
from config import Settings
from db import Database, NewClip, wanted_results
from errors import ArchiveError, AudioError, OperatorError, PermanentError, PipelineError
from jobs import dead_letters
from jobs.batches import Batches, BatchStart
from jobs.job_queue import UNPACK, Claim, ClipRef, mapped_redis_errors
from jobs.payloads import TranscribeJob, UnpackJob, parse_unpack_job
from jobs.s3_keys import parked_key
from media.audio import AudioInfo, ConvertedClip
from media.conversion import convert_all, probe_all
from monitoring.redis_checks import check_room
from monitoring.store_checks import check_stores
from recovery.finished_scratch import FinishedScratch
from recovery.lost_hosts import LostHosts
from recovery.reconcile import Reconciler
from s3_utils import ObjectStore
from scratch import directories as scratch
from scratch import volume
from utils import event
from workers.base import main
from workers.failures import BusyError, JobWorker
from workers.heartbeat import State
from workers.next_archive import LOOK_AHEAD, NextArchive

log = logging.getLogger(__name__)

SWEEP_S = 60.0  # longest pause between two checks for lost hosts and for scratch of batches finished elsewhere
LOOK_AGAIN_S = 2.0  # pause before room on scratch and the backlog are checked again
PARK_AT_A_TIME = 8  # broken clips that are uploaded in parallel, because a small upload mostly waits
NOTE_S = 60.0  # pause between two log lines with the reason why nothing is claimed


@dataclass
class _Contents:
    """An archive's members, sorted."""

    clips: list[Member] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    metadata_files: list[Member] = field(default_factory=list)


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
        self.s3 = ObjectStore(settings, self.watchdog.feed)
        self.batches = Batches(self.redis)
        letters = dead_letters.DeadLetters(self.redis, settings.scratch_root)
        self._reconciler = Reconciler(self.redis, self.db, self.s3, letters, self.watchdog.feed)
        self._next_archive = NextArchive(settings.scratch_root, self.s3, settings.room_wait_s)
        self._finished_scratch = FinishedScratch(settings.scratch_root, self.batches, self.db)
        self._lost_hosts = LostHosts(
            self.redis, self.db, self.name, settings.scratch_root,
            after_s=settings.host_lost_after_s, ttl_s=settings.heartbeat_ttl_s,
        )  # fmt: skip
        self._sweep_s = min(SWEEP_S, settings.heartbeat_ttl_s)
        self._next_sweep = 0.0
        self._not_before = 0.0
        self._reason = ""  # why nothing is claimed although there are jobs, or would not be if there were
        self._noted = 0.0
        self._full_since: dict[bytes, float] = {}  # by job: since when its unpacking has filled the disk

    def check_dependencies(self) -> None:
        check_stores(self.db, self.s3, self.settings)

    def check_while_idle(self) -> None:
        self.db.check()
        self.s3.check()

    def prepare(self) -> None:
        wanted_results(self.settings)  # stops here, before a job is claimed, when they cannot be read
        for restart in self._reconciler.at_start(str(self.name)):
            event(log, logging.WARNING, "batch brought back", batch=restart.job.batch_id, reason=restart.reason)

    def next_claim(self) -> Claim | None:
        waiting = self.queue.first(UNPACK, LOOK_AHEAD)
        if not waiting:
            self._reason = volume.full_problem(self.settings.scratch_root)
            return None
        if self._reason and time.monotonic() < self._not_before:
            return None
        reason = self._backlog_problem()
        if reason:
            self._note(reason)
            return None
        payload, reason = self._next_archive.choose(waiting)
        if payload is None:
            self._note(reason)
            return None
        self._reason = ""
        check_room(self.redis)
        claim = self.queue.claim(self.queues, only=payload)
        if claim is not None:
            self._next_archive.taken(payload)
        return claim

    def idle_state(self) -> tuple[State, str]:
        return ("waiting", self._reason) if self._reason else super().idle_state()

    def housekeeping(self) -> None:
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + self._sweep_s
        self._retire_lost_hosts()
        for batch_id in self._finished_scratch.sweep(self.watchdog.feed):
            event(log, logging.INFO, "scratch removed: the batch is over", batch=batch_id)

    def _retire_lost_hosts(self) -> None:
        try:
            hosts = self._lost_hosts.look()
        except OperatorError:
            self._lost_hosts.forget()
            raise
        for host in hosts:
            batches = self._lost_hosts.retire(host)
            event(
                log, logging.WARNING, "host is lost; its batches are unpacked again",
                host=host, batches=",".join(batch.batch_id for batch in batches) or None,
            )  # fmt: skip

    def clip_of(self, claim: Claim) -> ClipRef | None:  # noqa: ARG002 -- an archive is no clip
        return None

    def process(self, claim: Claim) -> None:
        job = parse_unpack_job(claim.payload)
        with scratch.owned_directory(self.settings.scratch_root, job.batch_id) as directory:
            if directory is None:
                raise BusyError(f"another process of this host is unpacking {job.batch_id}")
            if self.batches.under_way(job.batch_id):
                scratch.leave(directory)
                self.done(claim)
                event(log, logging.WARNING, "batch is already under way; this job adds nothing", batch=job.batch_id)
                return
            try:
                started = self._unpack(claim, job, directory)
            except BaseException:  # after any failure or a stop, nothing of a batch that did not start may stay
                with suppress(OperatorError):  # the first error is the one to report
                    scratch.discard(directory, self.watchdog.feed)
                raise
            if not started and not self.batches.under_way(job.batch_id):
                scratch.discard(directory, self.watchdog.feed)

    def _unpack(self, claim: Claim, job: UnpackJob, directory: Path) -> bool:
        """Unpack an archive -> whether this run started the batch (another worker may have been faster)."""
        began = time.monotonic()
        # Read for every archive, so that a changed policy counts without a restart of this worker. When the policies
        # or the manifest cannot be read, this worker stops, as the GPU worker does. To skip no clip would repeat
        # finished work; to skip every clip with results would ignore the change of policy.
        wanted = wanted_results(self.settings)
        run = self.db.begin_unpack(job)
        scratch.empty(directory, self.watchdog.feed)
        contents = self._sort(job, self._fetch(claim, job, directory))
        metadata = self._metadata(job, contents)
        done = self.db.done_clips(job.batch_id, wanted)
        todo = [member for member in contents.clips if member.name not in done]
        converted = self._convert(job, todo, directory, metadata.rows)
        letters = self._park_all(claim, job, converted.broken)
        scratch.remove_tree(directory / "originals", self.watchdog.feed)
        done_before = len(contents.clips) - len(todo)
        start = BatchStart(job, converted.jobs, done_before, letters, run=f"{self.name}:{run}")
        if not self.db.record_unpacked(
            job, run, self.name.host, total=start.total, clips=converted.rows, skipped=contents.skipped,
            metadata_matched=len(metadata.rows), metadata_problems=metadata.problems,
            on_progress=self.watchdog.feed,
        ):  # fmt: skip
            raise BusyError(f"{job.batch_id} was cancelled, or a newer run of unpack has replaced this one")
        answer = self._start(claim, start)
        event(
            log,
            logging.INFO if answer == "ok" else logging.WARNING,
            "batch unpacked" if answer == "ok" else "batch was started by another worker; nothing added",
            batch=job.batch_id,
            clips=len(converted.jobs),
            done_before=start.done_before,
            broken=len(letters),
            skipped=len(contents.skipped),
            metadata=f"matched {metadata.matched}",
            queue=self.settings.transcribe_queue,
            took_s=time.monotonic() - began,
        )
        return answer == "ok"

    def _start(self, claim: Claim, start: BatchStart) -> Literal["ok", "exists", "lost"]:
        """Start the batch. If Redis is down, wait for it, because the batch may have been started."""
        return self.until_redis_answers(
            lambda: self.batches.start(self.queue, claim, start, self.settings.transcribe_queue)
        )

    def _fetch(self, claim: Claim, job: UnpackJob, directory: Path) -> Extraction:
        size = self.s3.size(job.s3_key)
        problem: PipelineError | None = volume.room_problem(self.settings.scratch_root, size, job.s3_key)
        if problem is not None and self._next_archive.gives_up(claim.payload):
            problem = volume.lasting_problem(self.settings.scratch_root, size, job.s3_key) or problem
        if problem is not None:
            raise problem
        archive = directory / "archive"
        event(log, logging.INFO, "downloading", batch=job.batch_id, s3_key=job.s3_key, bytes=size)
        self.s3.download(job.s3_key, archive, lambda _: self.stop_if_asked())
        self.stop_if_asked()
        # An archive that is larger than the volume would fill the disk on every host, again and again.
        full_since = self._full_since.get(claim.payload, time.monotonic())
        lasting = time.monotonic() - full_since >= self.settings.room_wait_s
        room = volume.capacity(self.settings.scratch_root, beside_others=lasting and claim.payload in self._full_since)
        most = min(self.settings.max_archive_bytes, room - size)
        limits = Limits(total_bytes=most, members=self.settings.max_archive_members)
        try:
            extraction = extract(archive, directory / "originals", limits, on_progress=self.stop_if_asked)
        except ArchiveError as error:
            raise ArchiveError(f"{job.s3_key}: {error}") from error
        except OperatorError:
            # A disk that is full for a while gives up no job. After ROOM_WAIT_S, the space next to the models counts.
            self._full_since.setdefault(claim.payload, time.monotonic())
            raise
        self._full_since.pop(claim.payload, None)
        archive.unlink()
        self.stop_if_asked()
        return extraction

    def _sort(self, job: UnpackJob, extraction: Extraction) -> _Contents:
        contents = _Contents(skipped=[(skipped.name, skipped.reason) for skipped in extraction.skipped])
        for member in extraction.members:
            self.stop_if_asked()
            if member.kind == "metadata":
                contents.metadata_files.append(member)
            elif member.kind == "clip":
                contents.clips.append(member)
            elif member.kind == "sidecar":
                contents.skipped.append((member.name, "its name is not that of an audio file"))
        self._probe([member for member in extraction.members if member.kind == "unknown"], contents)
        for name, reason in contents.skipped:
            event(log, logging.INFO, "member skipped", batch=job.batch_id, member=name, reason=reason)
        if not contents.clips:
            raise ArchiveError(
                f"{job.s3_key} holds no audio file ({len(extraction.members)} members, {len(contents.skipped)} "
                "skipped); check the archive, then drop the job, or upload the right archive and retry"
            )
        return contents

    def _probe(self, unknown: Sequence[Member], contents: _Contents) -> None:
        """Probe members whose kind the name does not tell, and sort them."""
        results: dict[int, AudioInfo | PipelineError] = {}
        for index, result in probe_all(
            [member.path for member in unknown],
            processes=self.settings.convert_processes,
            clip_timeout_s=self.settings.clip_timeout_s,
            should_stop=self.stopping.is_set,
        ):
            self.watchdog.feed()
            results[index] = result
        for index, result in sorted(results.items()):
            if isinstance(result, AudioInfo):
                contents.clips.append(unknown[index])
            elif isinstance(result, PermanentError):
                contents.skipped.append((unknown[index].name, f"not audio: {result}"))
            else:
                raise result
        self.stop_if_asked()

    def _metadata(self, job: UnpackJob, contents: _Contents) -> ClipMetadata:
        names = [member.name for member in contents.clips]
        metadata = clip_metadata(contents.metadata_files, names, self.stop_if_asked)
        for subject, reason in metadata.problems:
            event(log, logging.WARNING, "metadata problem", batch=job.batch_id, of=subject, reason=reason)
        event(
            log,
            logging.WARNING if metadata.files and len(metadata.rows) < metadata.clips else logging.INFO,
            "metadata read" if metadata.files else "the archive holds no metadata file",
            batch=job.batch_id, matched=metadata.matched, files=metadata.files,
        )  # fmt: skip
        return metadata

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
            self.watchdog.feed()
            member = members[index]
            facts = metadata.get(member.name)
            if isinstance(result, ConvertedClip):
                converted.jobs.append(
                    TranscribeJob(opus_path=paths[index][1], batch_id=job.batch_id, original_filename=member.name)
                )
                converted.rows.append(_row(member, result, facts))
                for note in result.notes:
                    event(log, logging.WARNING, "clip not kept whole", batch=job.batch_id, clip=member.name, note=note)
            elif isinstance(result, AudioError):
                # On disk the clip's name is a number; people know the clip by its name in the archive.
                error = AudioError(str(result).replace(member.path.name, member.name))
                converted.broken.append((member, error))
                converted.rows.append(NewClip(original_filename=member.name, error=str(error), platform_metadata=facts))
            else:
                raise result
        self.stop_if_asked()
        converted.jobs.sort(key=lambda clip: clip.opus_path)  # in the archive's order, whichever was converted first
        return converted

    def _park_all(self, claim: Claim, job: UnpackJob, broken: Sequence[tuple[Member, AudioError]]) -> dict[str, bytes]:
        """Upload the clips that could not be read, some at a time -> their dead letters, in the archive's order."""
        letters: dict[str, bytes] = {}
        pool = ThreadPoolExecutor(PARK_AT_A_TIME, "park")
        try:
            running = {pool.submit(self._park, claim, job, member, error): member for member, error in broken}
            for parked in as_completed(running):
                letters[running[parked].name] = parked.result()
                self.stop_if_asked()
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure or a stop, wait only for the uploads that have begun
        return {member.name: letters[member.name] for member, _ in broken}

    def _park(self, claim: Claim, job: UnpackJob, member: Member, error: AudioError) -> bytes:
        # A parked .opus counts as already converted (see `recovery/parked_clips.py`), but this one is not.
        upload = member.path.with_suffix(".ogg") if member.path.suffix == ".opus" else member.path
        key = parked_key(job.batch_id, upload.name)
        self.s3.upload(member.path, key)
        event(
            log, logging.ERROR, "clip given up; it is in queue:failed",
            batch=job.batch_id, clip=member.name, parked=key, reason=error,
        )  # fmt: skip
        return dead_letters.write(claim, error, worker=self.name, clip=ClipRef(job.batch_id, member.name), parked=key)

    def _backlog_problem(self) -> str:
        """Why no archive is to be unpacked yet, or ''."""
        with mapped_redis_errors():
            waiting = self.redis.llen(self.settings.transcribe_queue)
        if waiting < self.settings.backlog_clips:
            return ""
        return (
            f"{waiting} clips wait in {self.settings.transcribe_queue} (BACKLOG_CLIPS is {self.settings.backlog_clips})"
        )

    def _note(self, reason: str) -> None:
        """Keep the reason for the heartbeat, log it from time to time, and look again a little later."""
        now = time.monotonic()
        if not self._reason or now - self._noted >= NOTE_S:
            self._noted = now
            event(log, logging.INFO, "not claiming yet", reason=reason)
        self._reason, self._not_before = reason, now + LOOK_AGAIN_S


def _row(member: Member, clip: ConvertedClip, metadata: Mapping[str, Any] | None) -> NewClip:
    return NewClip(
        original_filename=member.name,
        duration_s=clip.duration_s,
        source_format=clip.source_format,
        source_bytes=clip.source_bytes,
        source_sha256=clip.source_sha256,
        platform_metadata=metadata,
        audio_notes=clip.notes,
        levels=clip.levels,
    )


if __name__ == "__main__":
    main(UnpackWorker)
