"""gpu: clips on scratch -> transcript and verdicts -> S3 `processed/{date}/{audio_id}.opus` and Postgres.

The worker claims one clip at a time, from this host's own queue first, then from `queue:transcribe`. For each clip it
finds or makes the row (`audio_id`), transcribes, scores the transcript for every policy unless there is no speech,
uploads the Opus file, commits everything in one transaction, and acknowledges the job. The worker that acknowledges the
last clip of a batch finishes the batch: it records the completion and removes the scratch directory and the keys.

Promises: results are committed before the acknowledgement, and writing them twice changes nothing. A clip that already
has all results that this worker would write is acknowledged without being processed again.

Restart: an interrupted clip runs again. If a worker stops after a batch's last acknowledgement, another worker finishes
the batch. Models and policies are loaded once, at the start; restart the worker after changing them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config import Settings
from db import ClipRow, Database, JudgedText, NotJudged, Verdict, WantedResults, text_to_judge
from errors import PayloadError, PermanentError, PipelineError
from jobs.batches import Batches
from jobs.job_queue import Claim, ClipRef
from jobs.payloads import BATCH_ID, TranscribeJob, parse_probe, parse_transcribe_job
from jobs.s3_keys import parked_key
from media.audio import decode
from media.downmix import SAMPLE_RATE
from models.sets import resolve
from moderation.policies import Policy, load_policies
from moderation.scorer import Scorer
from monitoring.store_checks import check_stores
from recovery import parked_clips
from s3_utils import ObjectStore
from scratch import clip_files
from scratch import directories as scratch
from transcription import Transcriber, Transcript
from transcription.gate import Limits
from utils import event
from workers import probe
from workers.base import main
from workers.failures import JobWorker
from workers.scores_once import ScoresOnce

log = logging.getLogger(__name__)


class GpuWorker(JobWorker):
    kind = "gpu"
    transcriber: Transcriber
    scorer: Scorer
    policies: Sequence[Policy] = ()

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.db = Database(settings)
        self.s3 = ObjectStore(settings, self.watchdog.feed)
        self.batches = Batches(self.redis)

    @property
    def queues(self) -> Sequence[str]:
        return self.settings.transcribe_queues

    def check_dependencies(self) -> None:
        check_stores(self.db, self.s3, self.settings)

    def prepare(self) -> None:
        parked_clips.clear_leftovers(self.settings.scratch_root)
        if not self.policies:  # loaded already if a service went down during the start
            # Before the models, which take minutes: a policy that was edited without a new version stops the worker.
            self.db.record_policies(load_policies(self.settings.policies_dir), self.settings.policies_dir)
            self.load_engines()
            if self.settings.reuse_verdicts:
                self.scorer = ScoresOnce(self.scorer, Database(self.settings))

    def load_engines(self) -> None:
        """Load the speech model, the moderation model and the policies, once."""
        policies = load_policies(self.settings.policies_dir)
        models = resolve(self.settings.model_set, self.settings.models_root)
        # Imported here, not at the top: torch and related libraries take seconds and a gigabyte, which the heartbeat's
        # process, forked earlier, does not need, nor does a worker whose policies or models are not in order.
        from moderation.loading import load_scorer
        from system.device import choose_device
        from transcription.loading import load_transcriber

        device = choose_device(self.settings.device, self.settings.moderation_dtype)
        event(log, logging.INFO, "device chosen", device=device.name, hardware=device.description)
        began = time.monotonic()
        speech, moderation = models.speech, models.moderation
        # The larger model first: during loading, its weights are in memory twice.
        self.scorer = load_scorer(moderation, device)
        self.watchdog.feed()
        self.transcriber = load_transcriber(
            speech.path,
            name=speech.name,
            device=device.computing(self.settings.speech_compute_type),
            batch_size=self.settings.batch_size,
            limits=gate_limits(self.settings),
        )
        self.policies = policies
        event(
            log, logging.INFO, "models loaded",
            speech=speech.name, moderation=moderation.name,
            policies=",".join(f"{policy.id}@{policy.version}" for policy in policies),
            took_s=time.monotonic() - began,
        )  # fmt: skip

    def housekeeping(self) -> None:
        for batch_id in self.batches.finishing():
            self.watchdog.feed()
            self._finish(batch_id)

    def clip_of(self, claim: Claim) -> ClipRef | None:
        try:
            job = parse_transcribe_job(claim.payload, self.settings.scratch_root)
        except PayloadError:
            return None
        return ClipRef(job.batch_id, job.original_filename)

    def process(self, claim: Claim) -> None:
        nonce = parse_probe(claim.payload)
        if nonce is not None:
            probe.answer(self.redis, nonce, str(self.name), self._try_chain)
            self.done(claim)
            event(log, logging.INFO, "probe answered", probe=nonce)
            return
        job = parse_transcribe_job(claim.payload, self.settings.scratch_root)
        known = self.db.find_clip(job)
        if known and known.s3_opus_path and self._has_results(job, known):
            event(log, logging.INFO, "clip has its results already", batch=job.batch_id, clip=job.original_filename)
        elif job.opus_s3_key:  # before the file on scratch, because a person may have repaired the parked file
            with parked_clips.fetched(self.s3, job.opus_s3_key, self.settings) as opus_path:
                self._transcribe_and_judge(job, opus_path, self._row(job))
        elif (problem := clip_files.problem(job.opus_path, self.name.host)) is None:
            self._transcribe_and_judge(job, job.opus_path, self._row(job))
        else:
            raise PermanentError(problem)
        if self.done(claim, ClipRef(job.batch_id, job.original_filename)) == "complete":
            self._finish(job.batch_id)

    def _row(self, job: TranscribeJob) -> ClipRow:
        """Find or make the clip's row. Only for a job whose file exists, or the row would stay open forever."""
        row = self.db.ensure_clip(job)
        if job.audio_id not in {None, row.audio_id}:
            event(
                log, logging.WARNING, "the job's audio_id belongs to another clip; this clip's own is used",
                asked=job.audio_id, audio_id=row.audio_id, batch=job.batch_id, clip=job.original_filename,
            )  # fmt: skip
        return row

    def _try_chain(self, speech: Path) -> dict[str, Any]:
        """Do everything that a clip needs, without storing anything."""
        self.check_dependencies()
        [transcript] = self.transcriber.transcribe([decode(speech)])
        verdicts = self._judge(self._to_judge(transcript))
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
        """Whether all results of this worker exist, or any results if the clip's file and its batch are gone."""
        gone = not job.opus_path.is_file() and not job.opus_s3_key
        if gone and row.status in {"done", "no_speech"}:
            return True
        return self.db.has_results(row.audio_id, self._wanted())

    def _transcribe_and_judge(self, job: TranscribeJob, opus_path: Path, row: ClipRow) -> None:
        audio_id = row.audio_id
        began = time.monotonic()
        samples = decode(opus_path)
        self.watchdog.feed()
        [transcript] = self.transcriber.transcribe([samples])
        transcribed_at = time.monotonic()
        self.watchdog.feed()
        to_judge = self._to_judge(transcript)
        not_judged: NotJudged | None = None if to_judge or transcript.no_speech else "language"
        verdicts = self._judge(to_judge)
        scored_at = time.monotonic()
        day = datetime.now(UTC).date().isoformat()
        path = row.s3_opus_path or self.s3.upload_opus(opus_path, audio_id, day)
        self.db.save_results(
            audio_id,
            transcript=transcript,
            speech_model=self.transcriber.name,
            verdicts=verdicts,
            not_judged=not_judged,
            s3_opus_path=path,
            duration_s=len(samples) / SAMPLE_RATE,
            transcribe_s=transcribed_at - began,
            classify_s=scored_at - transcribed_at,
        )
        event(
            log, logging.INFO, "clip done",
            batch=job.batch_id, clip=job.original_filename, audio_id=audio_id,
            audio_s=len(samples) / SAMPLE_RATE, language=transcript.language, no_speech=transcript.no_speech_reason,
            doubtful=",".join(transcript.reasons) if transcript.finding == "doubtful" else None, not_judged=not_judged,
            flagged=",".join(verdict.policy for verdict in verdicts if verdict.violates) or None,
            transcribe_s=transcribed_at - began, classify_s=scored_at - transcribed_at, took_s=time.monotonic() - began,
        )  # fmt: skip

    def _to_judge(self, transcript: Transcript) -> JudgedText | None:
        return text_to_judge(transcript, self.settings.judged_language_codes, self.settings.other_languages)

    def _judge(self, text: JudgedText | None) -> list[Verdict]:
        return [] if text is None else [self._verdict(policy, text) for policy in self.policies]

    def _verdict(self, policy: Policy, text: JudgedText) -> Verdict:
        [score] = self.scorer.score(policy, [text.text])
        self.watchdog.feed()
        threshold = self.scorer.threshold(policy)
        return Verdict(
            policy=policy.id,
            policy_version=policy.version,
            policy_sha256=policy.sha256,
            model=self.scorer.name,
            prompt_version=self.scorer.prompt_version,
            violates=score.p_violation >= threshold,
            score=score.p_violation,
            threshold=threshold,
            mass=score.p_answer,
            truncated=score.truncated,
            judged=text.judged,
            text_sha256=text.sha256,
        )

    def _wanted(self) -> WantedResults:
        return WantedResults.of(self.transcriber.name, self.scorer, self.policies, self.settings)

    def _finish(self, batch_id: str) -> None:
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


def gate_limits(settings: Settings) -> Limits:
    """The gate's limits as the settings GATE_... say."""
    return Limits(**{limit.name: getattr(settings, f"gate_{limit.name}") for limit in fields(Limits)})


if __name__ == "__main__":
    main(GpuWorker)
