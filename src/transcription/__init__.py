"""Speech to text: the words with their times, the language, and whether a clip holds speech."""

from transcription.transcript import Samples, Segment, Transcriber, Transcript

__all__ = ["Samples", "Segment", "Transcriber", "Transcript"]
