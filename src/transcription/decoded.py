"""What Whisper makes of one window: text between time stamps, and the values that tell how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from transcription.gate import compression_ratio

FRAMES_PER_S = 100  # of the features

# How a window is decoded: by the most probable token at each step; with a beam ("plain"); or with a beam and so that no
# phrase occurs twice, which ends a decoder's loop.
Way = Literal["greedy", "plain", "no_repeats"]
Task = Literal["transcribe", "translate"]


@dataclass(frozen=True)
class Piece:
    """A stretch of text between two time stamps, in seconds from the start of the window."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Decoded:
    """What Whisper makes of one window."""

    pieces: tuple[Piece, ...]
    tokens: int  # of text, without time stamps
    avg_logprob: float  # mean natural log-probability per token, time stamps included
    no_speech_prob: float  # 0..1

    @property
    def text(self) -> str:
        return " ".join(piece.text for piece in self.pieces)

    @property
    def compression_ratio(self) -> float:
        return compression_ratio(self.text)
