"""gpu: clips on scratch -> transcript and verdicts -> S3 `processed/{date}/{audio_id}.opus` and Postgres.

The worker has up to CLIPS_IN_HAND clips in hand. It claims them from this host's own queue first, then from
`queue:transcribe`. A pool of threads decodes their files and finds the speech in them; one thread transcribes groups of
clips and scores the texts for every policy; another pool uploads the Opus files. The main thread claims, finds or makes
each clip's row (`audio_id`), commits its results in one transaction, and acknowledges its job at once. So while one
group is on the device, the next is prepared and the one before is stored. The worker that acknowledges the last clip of
a batch finishes the batch: it records the completion and removes the scratch directory and the keys.

Promises, for each clip by itself: results are committed before the acknowledgement, and writing them twice changes
nothing. A clip that already has all results that this worker would write is acknowledged without being processed again.
A clip's failure costs no other clip anything: when a group fails, each of its clips is tried by itself. When a service
is down, all clips go back to their queues and lose no attempt. A clip that a worker died with is done alone, with
nothing else in hand, so a clip that kills its worker takes others with it only once.

Stop: clips that were not on the device yet go back to their queues, the others are finished. A drain does the same.

Restart: an interrupted clip runs again. If a worker stops after a batch's last acknowledgement, another worker finishes
the batch. Models and policies are loaded once, at the start; restart the worker after changing them. With
WORKER_MEMORY_LIMIT_BYTES the worker restarts itself between two groups when it has grown beyond the limit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config import Settings
from db import ClipRow, Database, JudgedText, WantedResults, text_to_judge
from errors import PayloadError, PermanentError, PipelineError
from jobs.batches import Batches
from jobs.job_queue import Claim, ClipRef
from jobs.payloads import BATCH_ID, TranscribeJob, parse_probe, parse_transcribe_job
from jobs.s3_keys import parked_key
from media.audio import decode
from media.downmix import SAMPLE_RATE
from media.levels import levels_of
from moderation.policies import Policy, load_policies
from moderation.scorer import Scorer
from monitoring.store_checks import check_stores
from recovery import parked_clips
from s3_utils import ObjectStore
from scratch import clip_files
from scratch import directories as scratch
from transcription import PreparedClip, Transcriber, Transcript
from utils import event
from workers import models_in_memory, probe
from workers.base import main
from workers.clips_in_hand import ClipInHand, Judged
from workers.device_thread import DeviceThread
from workers.many_clips import ManyClipsWorker
from workers.scores_once import ScoresOnce

log = logging.getLogger(__name__)


class GpuWorker(ManyClipsWorker):
    kind = "gpu"
    transcriber: Transcriber
    scorer: Scorer
    policies: Sequence[Policy] = ()

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.db = Database(settings)
        self.s3 = ObjectStore(settings, self.watchdog.feed)
        self.batches = Batches(self.redis)
        self._one_fetches = threading.Lock()  # conversions share one fork server

    def check_dependencies(self) -> None:
        check_stores(self.db, self.s3, self.settings)

    def check_while_idle(self) -> None:
        self.db.check()
        self.s3.check()

    def prepare(self) -> None:
        parked_clips.clear_leftovers(self.settings.scratch_root)
        if not self.policies:  # loaded already if a service went down during the start
            # Before the models, which take minutes: a policy that was edited without a new version stops the worker.
            self.db.record_policies(load_policies(self.settings.policies_dir), self.settings.policies_dir)
            self.load_engines()
            if self.settings.reuse_verdicts:
                self.scorer = ScoresOnce(self.scorer, Database(self.settings))
        self.device = DeviceThread(
            self.transcriber,
            self.scorer,
            self.policies,
            to_judge=self._to_judge,
            on_progress=self.watchdog.feed,
            sample=probe.SPEECH,
        )
        self.check_memory_limit()

    def load_engines(self) -> None:
        """Load the speech model, the moderation model and the policies, once."""
        loaded = models_in_memory.load(self.settings, self.watchdog.feed)
        self.transcriber, self.scorer, self.policies = loaded.transcriber, loaded.scorer, loaded.policies

    def housekeeping(self) -> None:
        for batch_id in self.batches.finishing():
            self.watchdog.feed()
            self._finish_batch(batch_id)

    def clip_of(self, claim: Claim) -> ClipRef | None:
        try:
            job = parse_transcribe_job(claim.payload, self.settings.scratch_root)
        except PayloadError:
            return None
        return ClipRef(job.batch_id, job.original_filename)

    def take(self, claim: Claim) -> ClipInHand | None:
        nonce = parse_probe(claim.payload)
        if nonce is None:
            return ClipInHand(claim, parse_transcribe_job(claim.payload, self.settings.scratch_root))
        self.heartbeat.set("working", f"probe {nonce}")
        probe.answer(self.redis, nonce, str(self.name), self._try_chain)
        self.done(claim)
        event(log, logging.INFO, "probe answered", probe=nonce)
        return None

    def begin(self, clip: ClipInHand) -> None:
        job = clip.job
        known = self.db.find_clip(job)
        if known and known.s3_opus_path and self._has_results(job, known):
            event(log, logging.INFO, "clip has its results already", batch=job.batch_id, clip=job.original_filename)
            self._acknowledge(clip)
            return
        if clip.claim.interruptions:
            event(
                log, logging.INFO, "a worker died with this clip in hand; it is done alone",
                batch=job.batch_id, clip=job.original_filename, deaths=clip.claim.interruptions,
            )  # fmt: skip
        if not job.opus_s3_key:  # which comes before the file on scratch: a person may have repaired the parked file
            if problem := clip_files.problem(job.opus_path, self.name.host):
                raise PermanentError(problem)
            clip.opus_path, clip.row = job.opus_path, self._row(job)
        clip.goes("preparing", self.preparers.submit(self._prepare_file, clip))

    def _prepare_file(self, clip: ClipInHand) -> PreparedClip:
        """Fetch the file if it is parked, decode it, and find its speech. Runs in a thread of the pool."""
        began = time.monotonic()
        if clip.opus_path is None:
            with self._one_fetches:
                fetched = parked_clips.fetched(self.s3, str(clip.job.opus_s3_key), self.settings)
                clip.opus_path = clip.copies.enter_context(fetched)
        samples = decode(clip.opus_path)
        # Unpack has measured its clips, but not those that were injected or that an earlier release unpacked. A parked
        # clip is measured again, because a person may have repaired it.
        if clip.row is None or not clip.row.has_levels:
            clip.levels = levels_of(samples)
        found = self.transcriber.prepare(samples)
        clip.audio_s, clip.prepare_s = len(samples) / SAMPLE_RATE, time.monotonic() - began
        return found

    def fetched(self, clip: ClipInHand) -> None:
        clip.row = clip.row or self._row(clip.job)

    def _row(self, job: TranscribeJob) -> ClipRow:
        """Find or make the clip's row. Only for a job whose file exists, or the row would stay open forever."""
        row = self.db.ensure_clip(job)
        if job.audio_id not in {None, row.audio_id}:
            event(
                log, logging.WARNING, "the job's audio_id belongs to another clip; this clip's own is used",
                asked=job.audio_id, audio_id=row.audio_id, batch=job.batch_id, clip=job.original_filename,
            )  # fmt: skip
        return row

    def judged(self, clip: ClipInHand, found: Judged) -> None:
        clip.prepared = None  # megabytes that are not needed any more
        row = clip.row = clip.row or self._row(clip.job)
        if row.s3_opus_path:
            self._store(clip, row, found, row.s3_opus_path)
        else:
            clip.goes("uploading", self.uploaders.submit(self._upload, clip, row, found))

    def _upload(self, clip: ClipInHand, row: ClipRow, found: Judged) -> tuple[ClipRow, Judged, str]:
        """Runs in a thread of the pool."""
        day = datetime.now(UTC).date().isoformat()
        return row, found, self.s3.upload_opus(clip.opus_path or clip.job.opus_path, row.audio_id, day)

    def uploaded(self, clip: ClipInHand, found: tuple[ClipRow, Judged, str]) -> None:
        self._store(clip, *found)

    def _store(self, clip: ClipInHand, row: ClipRow, judged: Judged, s3_opus_path: str) -> None:
        """Commit the clip's results, then acknowledge its job."""
        transcript, verdicts = judged.transcript, judged.verdicts
        transcribe_s = clip.prepare_s + judged.transcribe_s
        self.db.save_results(
            row.audio_id,
            transcript=transcript,
            speech_model=self.transcriber.name,
            verdicts=verdicts,
            not_judged=judged.not_judged,
            s3_opus_path=s3_opus_path,
            duration_s=clip.audio_s,
            levels=clip.levels,
            transcribe_s=transcribe_s,
            classify_s=judged.classify_s,
        )
        event(
            log, logging.INFO, "clip done",
            batch=clip.job.batch_id, clip=clip.job.original_filename, audio_id=row.audio_id,
            audio_s=clip.audio_s, language=transcript.language, no_speech=transcript.no_speech_reason,
            doubtful=",".join(transcript.reasons) if transcript.finding == "doubtful" else None,
            not_judged=judged.not_judged,
            flagged=",".join(verdict.policy for verdict in verdicts if verdict.violates) or None,
            transcribe_s=transcribe_s, classify_s=judged.classify_s, took_s=time.monotonic() - clip.since,
        )  # fmt: skip
        self._acknowledge(clip)

    def _acknowledge(self, clip: ClipInHand) -> None:
        answer = self.done(clip.claim, clip.ref)
        self.hand.remove(clip)
        self.went_well()
        if answer == "complete":
            self._finish_batch(clip.job.batch_id)

    def _try_chain(self, speech: Path) -> dict[str, Any]:
        """Do everything that a clip needs, without storing anything."""
        self.check_dependencies()
        transcript, verdicts = self.device.try_out(speech)
        return {"heard": transcript.text, "scores": {verdict.policy: round(verdict.score, 4) for verdict in verdicts}}

    def on_given_up(self, claim: Claim, clip: ClipRef | None, error: PipelineError) -> str | None:
        if clip is None:
            return None
        self.db.mark_failed(clip.batch_id, clip.clip, str(error))
        job = parse_transcribe_job(claim.payload, self.settings.scratch_root)
        if clip_files.problem(job.opus_path, self.name.host):
            return None
        key = parked_key(job.batch_id, job.opus_path.name)
        self.s3.upload(job.opus_path, key, "audio/ogg")
        return key

    def _has_results(self, job: TranscribeJob, row: ClipRow) -> bool:
        """Whether all results that this worker would write exist.

        Any results are enough for a job that names no parked object and whose file is gone: nothing more can be done.
        """
        gone = not job.opus_path.is_file() and not job.opus_s3_key
        if gone and row.status in {"done", "no_speech"}:
            return True
        return self.db.has_results(row.audio_id, self._wanted())

    def _to_judge(self, transcript: Transcript) -> JudgedText | None:
        return text_to_judge(transcript, self.settings.judged_language_codes, self.settings.other_languages)

    def _wanted(self) -> WantedResults:
        return WantedResults.of(self.transcriber.name, self.scorer, self.policies, self.settings)

    def _finish_batch(self, batch_id: str) -> None:
        """Record completion once, then remove the batch's keys and scratch. Any worker may repeat this after a crash.

        One script removes the keys first, for only one worker. This worker then removes scratch, unless the batch has
        been started again. If the worker dies between the two steps, the unpack worker removes the directory.
        """
        finished = self.db.finish_batch(batch_id, self.batches.is_finishing)
        if finished:
            event(
                log, logging.INFO, "batch complete",
                batch=batch_id, clips=finished.total, processed=finished.processed, failed=finished.failed,
                took_s=finished.seconds,
            )  # fmt: skip
        if not self.batches.clear(batch_id):
            return
        if BATCH_ID.fullmatch(batch_id):
            scratch.remove(
                self.settings.scratch_root, batch_id, unless=self.batches.under_way, on_progress=self.watchdog.feed
            )
        else:  # somebody wrote it into Redis by hand; no directory on scratch can belong to it
            event(log, logging.WARNING, "removed from batches:finishing, because it is not a batch id", entry=batch_id)


if __name__ == "__main__":
    main(GpuWorker)
