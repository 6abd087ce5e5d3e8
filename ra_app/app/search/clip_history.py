"""All that is known of one clip, for its page: where it comes from, what machines and people made of it, and when.

Verdicts, and what others said of the clip, are only read by `judgements`: the page calls it for who may see them
(`app/search/clip_blindness.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app import acts, quality
from app.models import db

MOST_LINES = 300  # of the audit, the newest

Row = Mapping[Any, Any]

_CLIP = """
    SELECT a.*, b.s3_key, b.original_filename AS archive_name, b.transferred_at, b.unpacked_at, b.completed_at
    FROM audio_files a JOIN batches b USING (batch_id) WHERE a.audio_id = :audio_id
"""
_TRANSCRIPTS = """
    SELECT transcript_id, model, text, language, language_probability, finding, reasons, no_speech_reason, not_judged,
        translation, created_at
    FROM transcripts WHERE audio_id = :audio_id ORDER BY created_at DESC, transcript_id DESC
"""
_VERDICTS = """
    SELECT c.*, EXISTS (SELECT FROM verdicts_in_force v WHERE v.audio_id = c.audio_id
        AND v.classification_id = c.classification_id) AS in_force
    FROM classifications c WHERE c.audio_id = :audio_id ORDER BY c.policy, c.created_at DESC, c.classification_id DESC
"""
_STUDIES = """
    SELECT s.study_id, s.name, s.mode, s.state, s.kind, i.added_at, i.withdrawn_at
    FROM ra_items i JOIN ra_studies s USING (study_id) WHERE i.audio_id = :audio_id ORDER BY i.added_at, s.study_id
"""
_LABELS = """
    SELECT l.*, s.study_id, s.name AS study, u.pseudonym
    FROM ra_assignments a JOIN ra_labels l USING (assignment_id) JOIN ra_studies s USING (study_id)
    LEFT JOIN ra_users u ON u.user_id = a.user_id
    WHERE a.audio_id = :audio_id ORDER BY l.label_id
"""
_DECISIONS = """
    SELECT d.*, s.name AS study, s.study_id, u.username
    FROM ra_items i JOIN ra_decisions d USING (item_id) JOIN ra_studies s USING (study_id)
    LEFT JOIN ra_users u ON u.user_id = d.user_id WHERE i.audio_id = :audio_id ORDER BY d.decision_id
"""
_REFERENCES = """
    SELECT r.*, u.username FROM ra_references r LEFT JOIN ra_users u ON u.user_id = r.user_id
    WHERE r.audio_id = :audio_id ORDER BY r.reference_id
"""
_AUDIT = """
    SELECT e.at, e.event, u.pseudonym FROM ra_audit e LEFT JOIN ra_users u ON u.user_id = e.user_id
    WHERE e.audio_id = :audio_id AND (:everybody OR e.user_id = :viewer) ORDER BY e.entry_id DESC LIMIT :most
"""
_ACTS = """
    SELECT e.at, e.act, e.subject, u.username FROM ra_acts e LEFT JOIN ra_users u ON u.user_id = e.user_id
    WHERE e.subject = CAST(:audio_id AS text) AND e.act = ANY (:acts) ORDER BY e.act_id DESC LIMIT :most
"""
_OF_CLIPS = ("clip-opened", "erased")
_OF_ANSWERS = ("reference-set", "reference-withdrawn", "decided")
EVENTS = {
    "claimed": "got the clip",
    "opened": "opened it",
    "listened": "was sent its audio",
    "labelled": "labelled it",
    "revealed": "saw the verdicts",
    "skipped": "set it aside",
    "passed": "passed on it",
}


@dataclass(frozen=True, kw_only=True)
class Event:
    at: datetime
    what: str
    by: str = ""  # a pseudonym, or a lead's name; empty: the pipeline


@dataclass(frozen=True, kw_only=True)
class Origin:
    clip: Row
    metadata: Sequence[tuple[str, str]]
    notes: Sequence[str]
    transcripts: Sequence[Row]
    studies: Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """What the model and people said."""

    verdicts: Sequence[Row] = ()
    labels: Sequence[Row] = ()
    decisions: Sequence[Row] = ()
    references: Sequence[Row] = ()


def origin(audio_id: int) -> Origin | None:
    """Return where the clip comes from and what it says; None if there is no such clip."""
    found = _rows(_CLIP, audio_id=audio_id)
    if not found:
        return None
    clip = found[0]
    fields = clip["platform_metadata"]
    return Origin(
        clip=clip,
        metadata=[(str(name), str(value)) for name, value in fields.items()] if isinstance(fields, Mapping) else [],
        notes=[str(note) for note in clip["audio_notes"]] if isinstance(clip["audio_notes"], list) else [],
        transcripts=_rows(_TRANSCRIPTS, audio_id=audio_id),
        studies=_rows(_STUDIES, audio_id=audio_id),
    )


def judgements(audio_id: int) -> Judgements:
    """Return the verdicts of every version and model, all labels, decisions and references."""
    return Judgements(
        verdicts=_rows(_VERDICTS, audio_id=audio_id),
        labels=_rows(_LABELS, audio_id=audio_id),
        decisions=_rows(_DECISIONS, audio_id=audio_id),
        references=_rows(_REFERENCES, audio_id=audio_id),
    )


def events(found: Origin, said: Judgements | None, viewer: int) -> list[Event]:
    """Return what happened to the clip, the oldest first. Without `said`: nothing that tells a judgement."""
    audio_id = found.clip["audio_id"]
    lines = [*_of_pipeline(found), *_of_people(audio_id, viewer, everybody=said is not None)]
    if said is not None:
        lines += _of_judgements(said)
    return sorted(lines, key=lambda line: line.at)


def _of_pipeline(found: Origin) -> list[Event]:
    clip = found.clip
    dated = [
        (clip["transferred_at"], "The archive was fetched"),
        (clip["unpacked_at"], "The archive was unpacked"),
        (clip["created_at"], "The clip was recorded"),
        (clip["processed_at"], f"The clip was processed: {clip['status'].replace('_', ' ')}"),
        (clip["erased_at"], "The clip was erased in the pipeline"),
    ]
    dated += [(said["created_at"], f"Transcript by {said['model']}") for said in found.transcripts]
    for study in found.studies:
        dated.append((study["added_at"], f"Became part of the study {study['name']}"))
        dated.append((study["withdrawn_at"], f"Was withdrawn from the study {study['name']}"))
    return [Event(at=at, what=what) for at, what in dated if at is not None]


def _of_people(audio_id: int, viewer: int, *, everybody: bool) -> list[Event]:
    of_acts = [*_OF_CLIPS, *(_OF_ANSWERS if everybody else ())]
    audit = _rows(_AUDIT, audio_id=audio_id, viewer=viewer, everybody=everybody, most=MOST_LINES)
    done = _rows(_ACTS, audio_id=audio_id, acts=of_acts, most=MOST_LINES)
    return [
        *(Event(at=row["at"], what=EVENTS.get(row["event"], "–"), by=row["pseudonym"] or "") for row in audit),
        *(
            Event(
                at=row["at"],
                what=acts.SENTENCES[row["act"]].format(subject=row["subject"]),
                by=row["username"] or "a command on the server",
            )
            for row in done
        ),
    ]


def _of_judgements(said: Judgements) -> list[Event]:
    lines = [
        Event(
            at=row["created_at"],
            what=f"{row['policy']} {row['policy_version']} by {row['model']}: "
            f"{'violates' if row['violates'] else 'does not violate'}",
        )
        for row in said.verdicts
    ]
    lines += [
        Event(at=row["created_at"], what=f"Label in {row['study']}: {_codes(row['labels'])}", by=row["pseudonym"] or "")
        for row in said.labels
    ]
    return lines


def _codes(labels: Any) -> str:
    return ", ".join(map(str, labels)) if isinstance(labels, list) else "none"


def doubts(transcript: Row) -> list[str]:
    return quality.sentences(transcript["reasons"] or ())


def _rows(query: str, **values: Any) -> Sequence[Row]:
    return db.session.execute(sa.text(query), values).mappings().all()
