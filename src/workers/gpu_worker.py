"""gpu: clips on scratch -> transcript and verdicts -> S3 `processed/{date}/{audio_id}.opus` and Postgres.

Claims this host's own list first, then `queue:transcribe`, one clip at a time. For each: find or make its row
(`audio_id`), transcribe, judge the transcript against every policy unless there was no speech, upload the Opus file,
commit everything in one transaction, acknowledge. The acknowledgement that takes a batch's last clip lets this worker
finish the batch: completion recorded, scratch removed, keys gone.

Promises: results are committed before the acknowledgement, and writing them twice changes nothing; a clip that has
all results which this worker would write is acknowledged without being done again.

Restart: an interrupted clip runs again; a batch whose last acknowledgement was the worker's last act is finished by
whichever worker looks next. Models and policies are loaded once, at start; restart after changing them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import scratch
from audio import SAMPLE_RATE, decode
from batches import Batches
from config import Settings
from db import Database, Verdict
from device import choose_device
from errors import PayloadError, PermanentError, PipelineError
from job_queue import Claim, ClipRef
from models import resolve
from moderation.cope_a import load_cope_a
from moderation.policies import Policy, load_policies
from moderation.scorer import Scorer
from payloads import TranscribeJob, parse_transcribe_job
from s3_utils import ObjectStore
from transcription import Transcriber, Transcript
from transcription.whisperx_engine import load_transcriber
from utils import event
from workers.base import main
from workers.jobs import JobWorker

log = logging.getLogger(__name__)


class GpuWorker(JobWorker):
    kind = "gpu"
    transcriber: Transcriber
    scorer: Scorer
    policies: Sequence[Policy] = ()

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.db = Database(settings)
        self.s3 = ObjectStore(settings)
        self.batches = Batches(self.redis)

    @property
    def queues(self) -> Sequence[str]:
        return self.settings.transcribe_queues

    def check_dependencies(self) -> None:
        self.db.check()
        self.s3.check()
        scratch.check_scratch(self.settings.scratch_root)

    def prepare(self) -> None:
        if self.policies:
            return  # loaded before a service went away during the start
        policies = load_policies(self.settings.policies_dir)
        models = resolve(self.settings.model_set, self.settings.models_root)
        device = choose_device(self.settings.device)
        event(log, logging.INFO, "device chosen", device=device.name, hardware=device.description)
        began = time.monotonic()
        speech, moderation = models.speech, models.moderation
        # The larger model first: while it is loaded, its weights are in memory twice.
        self.scorer = load_cope_a(
            moderation.base,
            moderation.adapter,
            device=device,
            name=moderation.name,
            reads=moderation.reads,
            thresholds=moderation.thresholds,
            min_mass=moderation.min_mass,
        )
        self.transcriber = load_transcriber(
            speech.path, name=speech.name, device=device, batch_size=self.settings.batch_size
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
            self._finish(batch_id)

    def clip_of(self, claim: Claim) -> ClipRef | None:
        try:
            job = parse_transcribe_job(claim.payload, self.settings.scratch_root)
        except PayloadError:
            return None
        return ClipRef(job.batch_id, job.original_filename)

    def process(self, claim: Claim) -> None:
        job = parse_transcribe_job(claim.payload, self.settings.scratch_root)
        row = self.db.ensure_clip(job)
        if job.audio_id not in {None, row.audio_id}:
            event(
                log, logging.WARNING, "audio_id of the job is another clip's; this clip has its own",
                asked=job.audio_id, audio_id=row.audio_id, batch=job.batch_id, clip=job.original_filename,
            )  # fmt: skip
        if row.s3_opus_path and self.db.has_results(row.audio_id, self.transcriber.name, self._expected_verdicts()):
            event(log, logging.INFO, "clip has its results already", batch=job.batch_id, clip=job.original_filename)
        else:
            self._transcribe_and_judge(job, row.audio_id, row.s3_opus_path)
        if self.done(claim, ClipRef(job.batch_id, job.original_filename)) == "complete":
            self._finish(job.batch_id)

    def on_given_up(self, claim: Claim, clip: ClipRef | None, error: PipelineError) -> str | None:
        if clip is None:
            return None
        self.db.mark_failed(clip.batch_id, clip.clip, str(error))
        job = parse_transcribe_job(claim.payload, self.settings.scratch_root)
        if not job.opus_path.is_file():
            return None
        key = f"failed/{job.batch_id}/{job.opus_path.name}"
        self.s3.upload(job.opus_path, key, "audio/ogg")
        return key

    def _transcribe_and_judge(self, job: TranscribeJob, audio_id: int, s3_opus_path: str | None) -> None:
        began = time.monotonic()
        samples = decode(_existing(job.opus_path))
        [transcript] = self.transcriber.transcribe([samples])
        heard = time.monotonic()
        verdicts = [] if transcript.no_speech else self._judge(transcript)
        judged = time.monotonic()
        day = datetime.now(UTC).date().isoformat()
        path = s3_opus_path or self.s3.upload_opus(job.opus_path, audio_id, day)
        self.db.save_results(
            audio_id,
            transcript=transcript,
            speech_model=self.transcriber.name,
            verdicts=verdicts,
            s3_opus_path=path,
            duration_s=len(samples) / SAMPLE_RATE,
        )
        event(
            log, logging.INFO, "clip done",
            batch=job.batch_id, clip=job.original_filename, audio_id=audio_id,
            audio_s=len(samples) / SAMPLE_RATE, language=transcript.language, no_speech=transcript.no_speech_reason,
            flagged=",".join(verdict.policy for verdict in verdicts if verdict.violates) or None,
            transcribe_s=heard - began, classify_s=judged - heard, took_s=time.monotonic() - began,
        )  # fmt: skip

    def _judge(self, transcript: Transcript) -> list[Verdict]:
        return [self._verdict(policy, transcript.text) for policy in self.policies]

    def _verdict(self, policy: Policy, text: str) -> Verdict:
        [score] = self.scorer.score(policy, [text])
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
            mass=score.mass,
            truncated=score.truncated,
        )

    def _expected_verdicts(self) -> list[tuple[str, str, str]]:
        return [(policy.id, policy.version, self.scorer.name) for policy in self.policies]

    def _finish(self, batch_id: str) -> None:
        """Record completion once, then remove the batch's traces; any worker may do it again after a crash."""
        finished = self.db.finish_batch(batch_id)
        if batch_id not in self.batches.finishing():
            return  # another worker was faster, and the batch may have begun anew
        scratch.remove(self.settings.scratch_root, batch_id)
        self.batches.clear(batch_id)
        if finished:
            event(
                log, logging.INFO, "batch complete",
                batch=batch_id, clips=finished.total, processed=finished.processed, failed=finished.failed,
                took_s=finished.seconds,
            )  # fmt: skip


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise PermanentError(
            f"{path} is not on this host; if its scratch is gone, put the batch's archive into queue:unpack again"
        )
    return path


if __name__ == "__main__":
    main(GpuWorker)
