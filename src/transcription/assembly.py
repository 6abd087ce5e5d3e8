"""Join what was decoded of a clip's windows into its transcript."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from transcription import gate
from transcription.coverage import coverage
from transcription.languages import Guess
from transcription.repeats import Settled
from transcription.sentences import timed_sentences
from transcription.transcript import DecodedWindow, Finding, Segment, Transcript, Window

# A dropped window makes the clip doubtful if it holds so much speech, and such a part of the clip's speech.
DROPPED_S = 3.0
DROPPED_PART = 0.2
MORE_WORDS = 1.3  # times the tokens of the whole window that its halves must have to replace it
OTHER_LANGUAGE_PART = 0.15  # of the speech: from here on, the clip counts as one in several languages


@dataclass(frozen=True)
class WindowResult:
    """A window, its language, its decoding, and the results of its halves, if it was decoded again for more words."""

    window: Window
    guess: Guess
    settled: Settled
    change_db: float | None = None  # of the sound's level, see `other_sound`
    halves: list[WindowResult] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        """Tokens of text per second of speech."""
        return self.settled.decoded.tokens / max(self.window.speech_s, 0.1)

    def best(self) -> list[WindowResult]:
        """The halves if they have clearly more words; else this result."""
        better = [part for half in self.halves for part in half.best()]
        found = sum(part.settled.decoded.tokens for part in better)
        return better if found > MORE_WORDS * self.settled.decoded.tokens else [self]


def assemble(
    windows: Sequence[Window], results: Iterable[WindowResult], language: Guess | None, limits: gate.Limits
) -> Transcript:
    """The transcript of a clip with these windows of speech; `language` is that of its leading window."""
    best = (part for result in results for part in result.best())
    decoded = sorted((_judged(part, limits) for part in best), key=lambda item: item[0].start)
    records = tuple(record for record, _ in decoded)
    kept = [record for record in records if record.finding != "no_speech"]
    finding, reasons = _of_clip(records, kept)
    # Without speech, the transcript holds the values of the dropped windows, so that the reason can be checked.
    measured = kept or records
    weight = sum(record.speech_s for record in measured)
    return Transcript(
        text=" ".join(record.text for record in kept),
        language=language.language if kept and language else None,
        language_probability=language.probability if kept and language else None,
        segments=tuple(segment for record, found in decoded if record in kept for segment in found),
        speech_s=round(sum(window.speech_s for window in windows), 2),
        finding=finding,
        reasons=reasons,
        avg_logprob=sum(record.avg_logprob * record.speech_s for record in measured) / weight if weight else None,
        no_speech_prob=max((record.no_speech_prob for record in measured), default=None),
        compression_ratio=max((record.compression_ratio for record in measured), default=None),
        windows=records,
    )


def _judged(result: WindowResult, limits: gate.Limits) -> tuple[DecodedWindow, list[Segment]]:
    window, decoded = result.window, result.settled.decoded
    covered = coverage(window, decoded.pieces)
    finding, reasons = gate.judge(
        gate.Evidence(
            text=decoded.text,
            avg_logprob=decoded.avg_logprob,
            no_speech_prob=decoded.no_speech_prob,
            language_probability=result.guess.probability,
            coverage=covered,
            tokens_per_s=result.tokens_per_s,
            speech_s=window.speech_s,
            looped=result.settled.looped,
            repeats=result.settled.repeats,
            first_logprob=result.settled.first_logprob,
            change_db=result.change_db,
        ),
        limits,
    )
    record = DecodedWindow(
        start=round(window.start, 2),
        end=round(window.end, 2),
        speech_s=round(window.speech_s, 2),
        text=decoded.text,
        language=result.guess.language,
        language_probability=result.guess.probability,
        avg_logprob=decoded.avg_logprob,
        no_speech_prob=decoded.no_speech_prob,
        compression_ratio=decoded.compression_ratio,
        coverage=round(covered, 3),
        tokens_per_s=round(result.tokens_per_s, 2),
        first_logprob=result.settled.first_logprob,
        change_db=None if result.change_db is None else round(result.change_db, 2),
        finding=finding,
        reasons=reasons,
        decoding=result.settled.way,
    )
    return record, _segments(result, record)


def _segments(result: WindowResult, record: DecodedWindow) -> list[Segment]:
    start = result.window.start
    pieces = [
        (min(start + piece.start, record.end), min(start + piece.end, record.end), piece.text)
        for piece in result.settled.decoded.pieces
    ]
    return [
        Segment(
            start=begin,
            end=end,
            text=text,
            avg_logprob=record.avg_logprob,
            no_speech_prob=record.no_speech_prob,
            compression_ratio=record.compression_ratio,
        )
        for begin, end, text in timed_sentences(pieces)
    ]


def _of_clip(records: Sequence[DecodedWindow], kept: Sequence[DecodedWindow]) -> tuple[Finding, tuple[str, ...]]:
    """The finding of the clip, and its reasons."""
    if not records:
        return "no_speech", ("no-speech-found",)
    if not kept:
        return "no_speech", max(records, key=lambda record: record.speech_s).reasons
    reasons = list(dict.fromkeys(reason for record in kept for reason in record.reasons))
    speech_s = sum(record.speech_s for record in records)
    dropped_s = sum(record.speech_s for record in records if record.finding == "no_speech")
    if dropped_s >= max(DROPPED_S, DROPPED_PART * speech_s):
        reasons.append("dropped-window")
    if _mixed(kept):
        reasons.append("mixed-languages")
    return ("doubtful" if reasons else "speech"), tuple(reasons)


def _mixed(kept: Sequence[DecodedWindow]) -> bool:
    seconds: dict[str, float] = {}
    for record in kept:
        seconds[record.language] = seconds.get(record.language, 0.0) + record.speech_s
    return sum(seconds.values()) - max(seconds.values()) >= OTHER_LANGUAGE_PART * sum(seconds.values())
