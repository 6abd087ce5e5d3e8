"""Speech to text: what is said, when, in which language, and whether anything is said at all."""

from transcription.transcript import Samples, Segment, Transcriber, Transcript

__all__ = ["Samples", "Segment", "Transcriber", "Transcript"]
