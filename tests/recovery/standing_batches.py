"""Brings batches into any state, in Redis, Postgres and S3, as the workers would. No worker runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import redis

from db import Database, NewClip, WantedResults
from errors import PermanentError
from jobs import dead_letters
from jobs.batches import Batches, BatchStart
from jobs.job_queue import UNPACK, Claim, ClipRef, JobQueue, WorkerName
from jobs.payloads import TranscribeJob, UnpackJob, parse_transcribe_job, parse_unpack_job
from s3_utils import ObjectStore
from transcription import Transcript

SCRATCH = Path("/data/scratch")
WANTED = WantedResults("stub")
SILENCE = Transcript(
    text="", language=None, language_probability=None, segments=(), speech_s=0.0, finding="no_speech",
    reasons=("no-speech-found",), avg_logprob=None, no_speech_prob=None, compression_ratio=None,
)  # fmt: skip


class Site:
    def __init__(self, client: redis.Redis, db: Database, store: ObjectStore) -> None:
        self.client = client
        self.db = db
        self.store = store
        self.batches = Batches(client)

    def worker(self, host: str = "host-1") -> JobQueue:
        """A worker with a heartbeat that stays until a test deletes it."""
        queue = JobQueue(self.client, WorkerName.of_this_process(host))
        self.client.set(queue.worker.heartbeat_key, "{}")
        return queue

    def transfer(self, batch_id: str) -> UnpackJob:
        """The archive is in S3, and its job waits."""
        job = UnpackJob(batch_id=batch_id, s3_key=f"archives/{batch_id}.tar")
        self.store.client.put_object(Bucket=self.store.bucket, Key=job.s3_key, Body=b"a tar")
        self.client.rpush(UNPACK, job.to_json())
        return job

    def claim_archive(self, batch_id: str, host: str = "host-1") -> tuple[JobQueue, Claim]:
        queue = self.worker(host)
        claim = queue.claim([UNPACK])
        assert claim is not None
        assert parse_unpack_job(claim.payload).batch_id == batch_id
        return queue, claim

    def unpack(self, batch_id: str, clips: Sequence[str], host: str = "host-1") -> None:
        """The next archive, which must be this one, is unpacked on `host`; clips that are done are skipped."""
        queue, claim = self.claim_archive(batch_id, host)
        job = parse_unpack_job(claim.payload)
        run = self.db.begin_unpack(job)
        done = self.db.done_clips(batch_id, WANTED)
        todo = [clip for clip in clips if clip not in done]
        new = [NewClip(original_filename=clip) for clip in todo]
        assert self.db.record_unpacked(job, run, host, total=len(clips), clips=new, skipped=[])
        jobs = [
            TranscribeJob(opus_path=SCRATCH / batch_id / clip, batch_id=batch_id, original_filename=clip)
            for clip in todo
        ]
        start = BatchStart(job, jobs, len(clips) - len(todo), {}, run=f"{queue.worker}:{run}")
        assert self.batches.start(queue, claim, start, f"queue:transcribe:{host}") == "ok"

    def claim_clip(self, clip: str, host: str = "host-1") -> tuple[JobQueue, Claim]:
        queue = self.worker(host)
        claim = queue.claim([f"queue:transcribe:{host}"])
        assert claim is not None
        assert parse_transcribe_job(claim.payload, SCRATCH).original_filename == clip
        return queue, claim

    def transcribe(self, *clips: str, host: str = "host-1") -> None:
        """The next clips of the host, which must be these, get their results; the last finishes its batch."""
        for clip in clips:
            queue, claim = self.claim_clip(clip, host)
            job = parse_transcribe_job(claim.payload, SCRATCH)
            row = self.db.ensure_clip(job)
            self.db.save_results(
                row.audio_id,
                transcript=SILENCE,
                speech_model=WANTED.speech_model,
                verdicts=[],
                s3_opus_path="x",
                duration_s=1.0,
            )
            if queue.settle(claim, clip=ClipRef(job.batch_id, clip)) == "complete":
                assert self.db.finish_batch(job.batch_id)
                assert self.batches.clear(job.batch_id)

    def give_up_clip(self, clip: str, host: str = "host-1") -> bytes:
        """The next clip of the host, which must be this one, becomes a dead letter."""
        queue, claim = self.claim_clip(clip, host)
        ref = ClipRef(parse_transcribe_job(claim.payload, SCRATCH).batch_id, clip)
        letter = dead_letters.write(claim, PermanentError("broken"), worker=queue.worker, clip=ref)
        self.db.mark_failed(ref.batch_id, clip, "broken")
        queue.settle(claim, clip=ref, dead_letter=letter)
        return letter

    def give_up_archive(self, batch_id: str) -> None:
        """The next archive, which must be this one, becomes a dead letter."""
        queue, claim = self.claim_archive(batch_id)
        self.db.begin_unpack(parse_unpack_job(claim.payload))
        queue.settle(claim, dead_letter=dead_letters.write(claim, PermanentError("broken"), worker=queue.worker))

    def content(self) -> dict[bytes, bytes | None]:
        """Every key of Redis with its value, serialised."""
        return {key: self.client.dump(key) for key in self.client.scan_iter()}
