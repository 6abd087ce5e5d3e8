"""The interface of a speech model, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]  # mono, 16 kHz, in [-1, 1), shape (samples,)


@dataclass(frozen=True)
class Segment:
    """A short stretch of speech, about one sentence. Times are in seconds from the start of the clip."""

    start: float
    end: float
    text: str
    avg_logprob: float | None = None  # mean natural log-probability per token; 0 is certain, below -1 is a guess
    no_speech_prob: float | None = None  # 0..1, Whisper's own
    compression_ratio: float | None = None  # of the text under zlib; above 2.4 the text repeats itself


@dataclass(frozen=True)
class Transcript:
    """The result for one clip. If `no_speech` is True, the text is empty, a reason is given, and no verdict follows."""

    text: str
    language: str | None  # ISO 639-1; None without speech
    language_probability: float | None
    segments: tuple[Segment, ...]
    speech_s: float  # seconds of speech found by the voice activity detector
    no_speech: bool
    no_speech_reason: str | None
    avg_logprob: float | None  # mean over segments, weighted by length; of the dropped windows when there is no speech
    no_speech_prob: float | None  # highest of the segments
    compression_ratio: float | None  # highest of the segments


class Transcriber(Protocol):
    """A speech model. A worker loads one, because it holds gigabytes of weights and keeps state during a call."""

    @property
    def name(self) -> str:
        """The name recorded with every transcript, for example large-v3."""
        ...

    def transcribe(self, clips: Sequence[Samples]) -> list[Transcript]:
        """Transcribe each clip. The result of a clip does not depend on the other clips of the call.

        Raises
        ------
        DeviceMemoryError
            The device ran out of memory.
        """
        ...
