"""The GPU worker with stub models. Only the two models are stubs, and they answer at once.

    cd src && PYTHONPATH=.:.. python -m tests.reliability.stub_gpu_worker

With STUB_WAITS_FOR=/path it holds each clip until that file exists, with STUB_TAKES_S for so many seconds, and with
STUB_FAILS=reason every call fails. Files hold the pitches of tones, or "all": over those in STUB_TOO_BIG the device
runs out of memory, those in STUB_POISON make the whole call fail, those in STUB_KILLS kill the worker. With STUB_ROOM=4
the device has memory for four clips at once, with STUB_GROWS_MIB=700 the worker keeps so much more with each call. The
transcript is the pitch of the clip's tone, so a result in the row of another clip is noticed. Each call is logged with
its number of clips.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from db import judging
from errors import DeviceMemoryError
from models.manifest import load_manifest
from moderation.judging import Judging
from moderation.policies import Policy, load_policies
from moderation.scorer import Score
from transcription import PreparedClip, Samples, Segment, Transcript
from utils import event
from workers.base import main
from workers.gpu_worker import GpuWorker

log = logging.getLogger(__name__)

RATE = 16_000
FLAGGED_EVERY = 5


def hertz(samples: Samples) -> int:
    """The pitch of a tone, to the nearest 10 Hz; 0 for silence."""
    if float(np.abs(samples).max(initial=0)) < 0.01:
        return 0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n=4 * len(samples)))
    return round(float(np.argmax(spectrum)) * RATE / (4 * len(samples)) / 10) * 10


def spoken(pitch: int) -> str:
    """The transcript of a tone of `pitch` hertz."""
    return f"a tone of {pitch} hertz" if pitch else ""


def is_flagged(pitch: int) -> bool:
    return pitch // 10 % FLAGGED_EVERY == 0


def stands_in(variable: str, pitches: Sequence[int]) -> bool:
    """Whether the file that the variable names holds one of the pitches, or "all"."""
    file = Path(os.environ.get(variable, "/nonexistent"))
    words = file.read_text().split() if file.exists() else []
    return "all" in words or any(str(pitch) in words for pitch in pitches)


class StubTranscriber:
    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: list[bytes] = []

    def prepare(self, samples: Samples) -> PreparedClip:
        return PreparedClip(samples=samples)

    def decode(self, clips: Sequence[PreparedClip]) -> list[Transcript]:
        event(log, logging.INFO, "the stub transcribes", at_once=len(clips))
        pitches = [hertz(clip.samples) for clip in clips]
        if stands_in("STUB_KILLS", pitches):
            os.kill(os.getpid(), signal.SIGKILL)
        if "STUB_FAILS" in os.environ or stands_in("STUB_POISON", pitches):
            raise RuntimeError(os.environ.get("STUB_FAILS", "poison"))
        if stands_in("STUB_TOO_BIG", pitches) or len(clips) > int(os.environ.get("STUB_ROOM", "1000")):
            raise DeviceMemoryError(f"the device ran out of memory while transcribing {len(clips)} clips")
        self._kept.append(b"x" * (int(os.environ.get("STUB_GROWS_MIB", "0")) << 20))
        return [self._one(clip.samples) for clip in clips]

    def with_words(self, clip: PreparedClip, transcript: Transcript) -> Transcript:  # noqa: ARG002
        return transcript

    def transcribe(self, clips: Sequence[Samples]) -> list[Transcript]:
        return self.decode([self.prepare(clip) for clip in clips])

    def _one(self, samples: Samples) -> Transcript:
        gate = os.environ.get("STUB_WAITS_FOR")
        while gate and not Path(gate).exists():
            threading.Event().wait(0.05)
        threading.Event().wait(float(os.environ.get("STUB_TAKES_S", "0")))
        seconds, text = len(samples) / RATE, spoken(hertz(samples))
        if not text:
            return Transcript(
                text="", language=None, language_probability=None, segments=(), speech_s=0.0,
                finding="no_speech", reasons=("no-speech-found",), avg_logprob=None, no_speech_prob=None,
                compression_ratio=None,
            )  # fmt: skip
        segment = Segment(
            start=0.0, end=seconds, text=text, avg_logprob=-0.1, no_speech_prob=0.0, compression_ratio=1.0
        )
        return Transcript(
            text=text, language="en", language_probability=1.0, segments=(segment,), speech_s=seconds,
            finding="speech", reasons=(), avg_logprob=-0.1, no_speech_prob=0.0, compression_ratio=1.0,
        )  # fmt: skip


class StubScorer(Judging):
    def score(self, policy: Policy, texts: Sequence[str]) -> list[Score]:  # noqa: ARG002
        return [Score(0.99 if is_flagged(int(text.split()[3])) else 0.01, 1.0, truncated=False) for text in texts]


class StubGpuWorker(GpuWorker):
    def load_engines(self) -> None:
        # As MODEL_SET's models: by what they record the unpack worker knows which clips are done.
        models = load_manifest(self.settings.models_root).set(self.settings.model_set)
        self.policies = load_policies(self.settings.policies_dir)
        self.transcriber = StubTranscriber(models.speech.name)
        judge = judging(self.settings)
        self.scorer = StubScorer(judge.name, judge.format, judge.reads, judge.thresholds)


if __name__ == "__main__":
    main(StubGpuWorker)
