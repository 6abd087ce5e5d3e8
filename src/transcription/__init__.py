"""Speech to text: the words with their times, the language, and whether a clip holds speech."""

from transcription.transcript import DecodedWindow, Finding, Samples, Segment, Transcriber, Transcript, Word

__all__ = ["DecodedWindow", "Finding", "Samples", "Segment", "Transcriber", "Transcript", "Word"]
