"""The one thread that uses the models: from groups of prepared clips to each clip's transcript and verdicts.

The two models take turns: first the group is transcribed, then its texts are scored. Both stay loaded. No other thread
may use them, because tokenizers and caches keep state during a call.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from db import JudgedText, Verdict
from errors import DeviceMemoryError, OperatorError
from media.audio import decode
from moderation.policies import Policy
from moderation.scorer import Scorer
from transcription import Transcriber, Transcript
from utils import event
from workers.clips_in_hand import ClipInHand, Judged
from workers.judging import judge
from workers.together import together

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class DeviceThread:
    def __init__(
        self,
        transcriber: Transcriber,
        scorer: Scorer,
        policies: Sequence[Policy],
        *,
        to_judge: Callable[[Transcript], JudgedText | None],
        on_progress: Callable[[], None],
        sample: Path,
    ) -> None:
        """`to_judge` chooses the text that is judged, if any. With the short clip `sample` the memory is tried."""
        self._transcriber, self._scorer, self._policies = transcriber, scorer, policies
        self._to_judge = to_judge
        self._on_progress = on_progress
        self._sample = sample
        self._thread = ThreadPoolExecutor(1, "device")

    def begin(self, group: Sequence[ClipInHand]) -> None:
        """Have a group of prepared clips done. The `work` of each clip gives its `Judged`, or its own failure.

        An OperatorError of all clips means that the failure is none of theirs.
        """
        for clip in group:
            clip.goes("decoding", Future())
        self._thread.submit(self._run, list(group))

    def try_out(self, speech: Path) -> tuple[Transcript, list[Verdict]]:
        """Do for a file what is done for a clip, and wait for it; raises what the models raise."""
        return self._thread.submit(self._one, speech).result()

    def _run(self, group: Sequence[ClipInHand]) -> None:
        works = [(clip, clip.work) for clip in group]
        begun = [(clip, work) for clip, work in works if work and work.set_running_or_notify_cancel()]
        try:
            outcomes: Sequence[Judged | BaseException] = self._judged([clip for clip, _ in begun])
        except BaseException as error:  # noqa: BLE001 -- it must reach the main thread, whatever it is
            outcomes = [error] * len(begun)
        for (_, work), outcome in zip(begun, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                work.set_exception(outcome)
            else:
                work.set_result(outcome)

    def _judged(self, group: Sequence[ClipInHand]) -> list[Judged | Exception]:
        began = time.monotonic()
        prepared = [clip.prepared for clip in group if clip.prepared]
        transcripts = together(self._transcriber.decode, prepared, doing="transcribing")
        self._on_progress()
        transcribed_at = time.monotonic()
        heard = [found for found in transcripts if isinstance(found, Transcript)]
        verdicts = iter(together(self._judge, heard, doing="scoring"))
        scored_at = time.monotonic()
        audio_s = sum(clip.audio_s for clip in group) or 1.0
        spoken = sum(not transcript.no_speech for transcript in heard) or 1
        outcomes: list[Judged | Exception] = []
        for clip, transcript in zip(group, transcripts, strict=True):
            found = next(verdicts) if isinstance(transcript, Transcript) else transcript
            if isinstance(transcript, Exception) or isinstance(found, Exception):
                outcomes.append(found if isinstance(found, Exception) else transcript)  # type: ignore[arg-type]
                continue
            outcomes.append(
                Judged(
                    self._with_words(clip, transcript, found),
                    found,
                    None if transcript.no_speech or self._to_judge(transcript) else "language",
                    (transcribed_at - began) * clip.audio_s / audio_s,
                    0.0 if transcript.no_speech else (scored_at - transcribed_at) / spoken,
                )
            )
        self._tell_whose_fault(outcomes)
        return outcomes

    def _judge(self, transcripts: Sequence[Transcript]) -> list[list[Verdict]]:
        texts = [self._to_judge(transcript) for transcript in transcripts]
        return judge(self._scorer, self._policies, texts, self._on_progress)

    def _with_words(self, clip: ClipInHand, transcript: Transcript, verdicts: Sequence[Verdict]) -> Transcript:
        """The transcript, with the times of its words if the clip is flagged: only then somebody looks at them."""
        if clip.prepared is None or not any(verdict.violates for verdict in verdicts):
            return transcript
        try:
            return self._transcriber.with_words(clip.prepared, transcript)
        except Exception as error:  # noqa: BLE001 -- a clip without times of words is better than no result
            event(
                log, logging.WARNING, "the times of the words could not be found",
                batch=clip.job.batch_id, clip=clip.job.original_filename, reason=error,
            )  # fmt: skip
            return transcript

    def _one(self, speech: Path) -> tuple[Transcript, list[Verdict]]:
        [transcript] = self._transcriber.decode([self._transcriber.prepare(decode(speech))])
        [verdicts] = self._judge([transcript])
        self._on_progress()
        return transcript, verdicts

    def _tell_whose_fault(self, outcomes: Sequence[Judged | Exception]) -> None:
        """When nothing but failures for want of memory came out, try a short clip that fits where any clip fits.

        If it fits, each failure is its own clip's. If not, raises OperatorError: the device has room for no clip.
        """
        lacking = [outcome for outcome in outcomes if isinstance(outcome, DeviceMemoryError)]
        if not lacking or any(isinstance(outcome, Judged) for outcome in outcomes):
            return
        try:
            self._one(self._sample)
        except DeviceMemoryError as error:
            raise OperatorError(
                "the device has no memory left even for a few seconds of speech; look with nvidia-smi which program "
                f"uses it, and stop that program or restart this worker ({error})"
            ) from error
