"""The interface of a speech model, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]  # mono, 16 kHz, in [-1, 1), shape (samples,)

# What a window or a clip holds, by the gate's rule (`gate`): speech that the text covers; speech whose text is perhaps
# wrong or has gaps; no speech.
Finding = Literal["speech", "doubtful", "no_speech"]

# Where the times of words come from: an alignment model of the language, or the attention of the speech model.
WordsFrom = Literal["alignment", "decoder"]

Span = tuple[float, float]  # start and end in seconds


@dataclass(frozen=True)
class Window:
    """A stretch of one clip that Whisper decodes at once; times are in seconds from the start of the clip."""

    start: float
    end: float
    spans: tuple[Span, ...]  # the spans of speech in the window, without padding

    @property
    def speech_s(self) -> float:
        """Seconds of speech in the window."""
        return sum(end - start for start, end in self.spans)


@dataclass(frozen=True, kw_only=True)
class PreparedClip:
    """A clip after the work that needs no model on the device: where speech is, and the features of these windows."""

    samples: Samples
    windows: tuple[Window, ...] = ()
    features: tuple[npt.NDArray[np.float32], ...] = ()  # one of each window, shape (mels, frames)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A short stretch of speech, about one sentence. Times are in seconds from the start of the clip."""

    start: float
    end: float
    text: str
    avg_logprob: float | None = None  # mean natural log-probability per token; 0 is certain, below -1 is a guess
    no_speech_prob: float | None = None  # 0..1, Whisper's own
    compression_ratio: float | None = None  # of the text under zlib; above 2.4 the text repeats itself


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word. Times are in seconds from the start of the clip; `probability` is the mean over its tokens, 0..1."""

    start: float
    end: float
    word: str
    probability: float | None = None


@dataclass(frozen=True, kw_only=True)
class DecodedWindow:
    """What the speech model made of one window of a clip. Every window is recorded, also one without speech.

    Times are in seconds from the start of the clip.
    """

    start: float
    end: float
    speech_s: float  # seconds of speech in the window that the voice activity detector found
    text: str  # as decoded, also when it is not part of the transcript
    language: str  # ISO 639-1
    language_probability: float  # 0..1
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    coverage: float  # 0..1, the part of the speech that lies within the time stamps of the text
    tokens_per_s: float  # tokens of text per second of speech
    first_logprob: float | None = None  # of the most probable tokens; avg_logprob is that of the text that was kept
    change_db: float | None = None  # how much the level changes: little if another voice or music fills the pauses
    finding: Finding
    reasons: tuple[str, ...]  # why the finding is not "speech": keys of gate.REASONS
    decoding: str  # how the text was decoded: see `decoding`


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The result for one clip. With the finding "no_speech" the text is empty and no verdict follows."""

    text: str
    language: str | None  # ISO 639-1; None without speech
    language_probability: float | None
    segments: tuple[Segment, ...]
    speech_s: float  # seconds of speech found by the voice activity detector
    finding: Finding
    reasons: tuple[str, ...]  # keys of gate.REASONS: why there is no speech, or why the text is doubtful
    avg_logprob: float | None  # mean over windows, weighted by speech; of the dropped windows when there is no speech
    no_speech_prob: float | None  # highest of the windows
    compression_ratio: float | None  # highest of the windows
    windows: tuple[DecodedWindow, ...] = ()
    translation: str | None = None  # into English by the speech model; only if it was asked for
    words: tuple[Word, ...] | None = None  # only after `with_words`
    words_from: WordsFrom | None = None

    @property
    def no_speech(self) -> bool:
        """Whether nobody speaks in the clip."""
        return self.finding == "no_speech"

    @property
    def no_speech_reason(self) -> str | None:
        """The main reason why there is no speech, or None if there is."""
        return self.reasons[0] if self.no_speech else None


class Transcriber(Protocol):
    """A speech model. A worker loads one, because it holds gigabytes of weights and keeps state during a call."""

    @property
    def name(self) -> str:
        """The name recorded with every transcript, for example large-v3."""
        ...

    def prepare(self, samples: Samples) -> PreparedClip:
        """Find the speech of one clip and compute its features, on the CPU. Several threads may call this."""
        ...

    def decode(self, clips: Sequence[PreparedClip]) -> list[Transcript]:
        """Transcribe prepared clips. The result of a clip does not depend on the other clips of the call.

        Raises
        ------
        DeviceMemoryError
            The device ran out of memory, even for one window.
        """
        ...

    def with_words(self, clip: PreparedClip, transcript: Transcript) -> Transcript:
        """Add the times of the words to the transcript of this clip; raises what `decode` raises."""
        ...

    def transcribe(self, clips: Sequence[Samples]) -> list[Transcript]:
        """Prepare and decode each clip; raises what `decode` raises."""
        ...
