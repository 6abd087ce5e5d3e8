"""Speech to text: the words with their times, the language, and whether a clip holds speech."""

from transcription.transcript import (
    DecodedWindow,
    Finding,
    PreparedClip,
    Samples,
    Segment,
    Transcriber,
    Transcript,
    Window,
    Word,
)

__all__ = [
    "DecodedWindow",
    "Finding",
    "PreparedClip",
    "Samples",
    "Segment",
    "Transcriber",
    "Transcript",
    "Window",
    "Word",
]
