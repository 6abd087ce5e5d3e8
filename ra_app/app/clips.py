"""One clip: what of it is shown to a reviewer, its audio, and the model's verdicts.

Review is blind: only `verdicts` selects a policy, a verdict or a score, so no other query can show them by accident.
Nothing here decides who may see a clip; `app/reviewing/claims.py` does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.models import db
from app.pipeline import audio_files, transcripts, verdicts_in_force


@dataclass(frozen=True, kw_only=True)
class Word:
    start: float
    text: str  # with what follows it up to the next word


@dataclass(frozen=True, kw_only=True)
class Segment:
    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()  # empty: their times are not known
    doubts: tuple[str, ...] = ()  # why this part may be missing words or have wrong ones; the pipeline's keys


@dataclass(frozen=True, kw_only=True)
class Sound:
    """What a player needs to know of the audio before it has it."""

    peaks: bytes  # largest amplitude in each of up to 600 equal parts; 255 is full scale; empty: not measured
    loudness_lufs: float | None
    peak_dbfs: float | None


@dataclass(frozen=True, kw_only=True)
class Clip:
    audio_id: int
    duration_s: float | None
    transcript_id: int | None
    transcript: str
    language: str | None
    segments: tuple[Segment, ...]
    translation: str  # into English, by the machine; empty: there is none
    not_judged: str | None  # why the model gave no verdict although there is speech: "language"
    sound: Sound
    finding: str
    reasons: tuple[str, ...]  # the pipeline's keys
    origin: tuple[tuple[str, str], ...]  # what the study shows of where the clip comes from: names and values

    @property
    def doubtful(self) -> bool:
        return self.finding == "doubtful"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    classification_id: int
    policy: str
    policy_version: str
    model: str
    violates: bool
    score: float
    threshold: float


def load_clip(audio_id: int, shows: Collection[str]) -> Clip | None:
    """Return a clip, or None if there is none. `shows` are the study's: what else of the clip may be shown."""
    columns = [audio_files.c[name] for name in ("audio_id", "duration_s", "peaks", "loudness_lufs", "peak_dbfs")]
    columns += [audio_files.c.original_filename] if "filename" in shows else []
    columns += [audio_files.c.batch_id] if "batch" in shows else []
    columns += [audio_files.c.platform_metadata] if "platform" in shows else []
    row = db.session.execute(sa.select(*columns).where(audio_files.c.audio_id == audio_id)).mappings().first()
    if row is None:
        return None
    said = _transcript(audio_id)
    return Clip(
        audio_id=audio_id,
        duration_s=row["duration_s"],
        transcript_id=said.get("transcript_id"),
        transcript=said.get("text", ""),
        language=said.get("language"),
        segments=_segments(said.get("segments"), said.get("words"), said.get("windows")),
        translation=said.get("translation") or "",
        not_judged=said.get("not_judged"),
        sound=Sound(peaks=bytes(row["peaks"] or b""), loudness_lufs=row["loudness_lufs"], peak_dbfs=row["peak_dbfs"]),
        finding=said.get("finding", "speech"),
        reasons=tuple(said.get("reasons") or ()),
        origin=_origin(row),
    )


def _transcript(audio_id: int) -> Mapping[Any, Any]:
    """Return the transcript by which the clip was flagged last; for a clip that is not flagged, the newest one."""
    verdict = verdicts_in_force.c
    judged = (
        sa.select(verdict.transcript_id)
        .where(verdict.audio_id == audio_id, verdict.violates)
        .order_by(verdict.created_at.desc(), verdict.classification_id.desc())
        .limit(1)
        .scalar_subquery()
    )
    names = (
        "transcript_id", "text", "language", "segments", "finding", "reasons", "words", "windows", "translation",
        "not_judged",
    )  # fmt: skip
    query = (
        sa.select(*(transcripts.c[name] for name in names))
        .where(transcripts.c.audio_id == audio_id)
        .order_by(
            sa.func.coalesce(transcripts.c.transcript_id == judged, sa.false()).desc(),
            transcripts.c.created_at.desc(),
            transcripts.c.transcript_id.desc(),
        )
        .limit(1)
    )
    return db.session.execute(query).mappings().first() or {}


def own_transcript(audio_id: int, transcript_id: int | None) -> int | None:
    """Return the number, if it is that of a transcript of this clip."""
    query = sa.select(transcripts.c.transcript_id).where(
        transcripts.c.audio_id == audio_id, transcripts.c.transcript_id == transcript_id
    )
    return db.session.scalar(query) if transcript_id is not None else None


def audio_key(audio_id: int) -> str | None:
    """Return the S3 key of a clip's audio, or None if there is none."""
    return db.session.scalar(sa.select(audio_files.c.s3_opus_path).where(audio_files.c.audio_id == audio_id))


def verdicts(audio_id: int) -> list[Verdict]:
    """Return the verdict in force of each policy. Show it only where `labelling.sees_verdicts` allows it."""
    columns = verdicts_in_force.c
    names = ("classification_id", "policy", "policy_version", "model", "violates", "score", "threshold")
    query = sa.select(*(columns[name] for name in names)).where(columns.audio_id == audio_id).order_by(columns.policy)
    return [Verdict(**row) for row in db.session.execute(query).mappings()]


def _origin(row: Mapping[Any, Any]) -> tuple[tuple[str, str], ...]:
    """Return the fields of the clip's origin that were selected, as text; nested values are written as they are."""
    named = [("File", row.get("original_filename")), ("Batch", row.get("batch_id"))]
    fields = row.get("platform_metadata")
    if isinstance(fields, Mapping):
        named += [(str(name), value) for name, value in fields.items()]
    return tuple((name, str(value)) for name, value in named if value is not None)


def _segments(stored: Any, words: Any, windows: Any) -> tuple[Segment, ...]:
    """Return the segments of a transcript. Only start, end and text are read; invalid entries are left out."""
    said = _words(words)
    found = []
    for item in _mappings(stored):
        start, end, text = _time(item.get("start")), _time(item.get("end")), item.get("text")
        if start is None or end is None or not isinstance(text, str) or not text.strip():
            continue
        own = [word for word in said if start - 0.01 <= word.start < end]
        doubts = _doubts(windows, (start + end) / 2)
        found.append(Segment(start=start, end=end, text=text.strip(), words=_placed(own, text.strip()), doubts=doubts))
    return tuple(found)


def _doubts(windows: Any, at: float) -> tuple[str, ...]:
    """Return why the window of the speech model that holds this second is doubtful; empty if it is not."""
    for window in _mappings(windows):
        start, end, reasons = _time(window.get("start")), _time(window.get("end")), window.get("reasons")
        if window.get("finding") == "doubtful" and start is not None and end is not None and start <= at <= end:
            return tuple(str(reason) for reason in reasons) if isinstance(reasons, list) else ()
    return ()


def _words(stored: Any) -> list[Word]:
    found = []
    for item in _mappings(stored):
        start, text = _time(item.get("start")), item.get("word")
        if start is not None and isinstance(text, str) and text.strip():
            found.append(Word(start=start, text=text.strip()))
    return found


def _placed(words: Sequence[Word], text: str) -> tuple[Word, ...]:
    """Cut the text before each word, so that the parts together are the text. Empty if a word is not in the text."""
    cuts, at = [], 0
    for word in words:
        found = text.find(word.text, at)
        if found < 0:
            return ()
        cuts.append(found)
        at = found + len(word.text)
    edges = [0, *cuts[1:], len(text)]  # the first word takes what stands before it
    return tuple(Word(start=word.start, text=text[edges[n] : edges[n + 1]]) for n, word in enumerate(words))


def _mappings(stored: Any) -> list[Mapping[Any, Any]]:
    return [item for item in stored if isinstance(item, Mapping)] if isinstance(stored, list) else []


def _time(value: Any) -> float | None:
    """Return the value as seconds, or None if it is not a number of seconds."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value >= 0 else None
