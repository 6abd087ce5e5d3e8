"""The columns of an export: one row is one judgement as it was submitted; a changed judgement is one more row.

The keys of the JSON, the header of the CSV, the schema of the Parquet file and the data dictionary are all made of this
list, and so is the query: `sql` is an expression over the tables that `canonical` joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# The types of values. `texts`, `integers` and `parts` are lists; in CSV they are JSON text, like `json`.
TYPES = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "text": "text",
    "time": "time in UTC, ISO 8601",
    "texts": "list of texts",
    "integers": "list of whole numbers",
    "parts": "list of [from, to]",
    "json": "text that is JSON",
}
LISTS = ("texts", "integers", "parts")


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    type: str
    meaning: str
    sql: str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a lead chose for one export beyond studies and formats. Both default to what says least of people."""

    text: bool = False  # the transcript
    names: bool = False  # the file name and the archive


def columns_of(choices: Choices, policies: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of an export, in order; `policies` are those that have judged one of its clips."""
    chosen = (*(TEXT if choices.text else ()), *(NAMES if choices.names else ()))
    verdicts = (column for number, policy in enumerate(policies) for column in verdict_columns(policy, number))
    return (*ALWAYS, *chosen, *verdicts)


def verdict_columns(policy: str, number: int) -> tuple[Column, ...]:
    """Return the columns of one policy. In the query it is called by its number, never by its name."""
    return tuple(
        Column(name=f"{name}_{policy}", type=kind, unit=unit, meaning=meaning.format(policy=policy),
               sql=f"v.{name}_{number}")
        for name, kind, unit, meaning in VERDICT
    )  # fmt: skip


# Of the verdict in force when the snapshot was made: column of verdicts_in_force, type, unit, meaning.
VERDICT = (
    ("verdict", "boolean", "", "The classifier says that the clip violates {policy}; empty: not judged by it."),
    ("score", "number", "0 to 1", "The classifier's score for {policy}."),
    ("threshold", "number", "0 to 1", "The score from which on the clip counts as violating {policy}."),
    ("policy_version", "text", "", "The version of the policy {policy} that was judged by."),
    ("prompt_version", "text", "", "The version of the prompt that the policy {policy} was put into."),
    ("classifier", "text", "", "The model that judged by {policy}."),
)

_LABEL = (
    Column(
        name="label_id",
        type="integer",
        sql="l.label_id",
        meaning="The number of this judgement; a later one is larger.",
    ),
    Column(name="study_id", type="integer", sql="i.study_id", meaning="The number of the study."),
    Column(name="study", type="text", sql="s.name", meaning="The study's name."),
    Column(
        name="study_kind",
        type="text",
        sql="s.kind",
        meaning="study, or training: for practice, in no number of a paper.",
    ),
    Column(
        name="arm",
        type="text",
        sql="coalesce(l.mode, s.mode)",
        meaning="blind: verdicts are never shown; assisted: from the start; reveal: on request after a judgement.",
    ),
    Column(name="blind", type="boolean", sql="l.blind", meaning="The coder had not seen the classifier's verdicts."),
    Column(
        name="is_newest",
        type="boolean",
        sql="lead(l.label_id) OVER (PARTITION BY l.assignment_id ORDER BY l.label_id) IS NULL",
        meaning="This is the coder's last word on this clip. Filter by it for one row per coder and clip.",
    ),
    Column(
        name="revision_of",
        type="integer",
        sql="l.revision_of",
        meaning="The label_id of the judgement that this one replaces.",
    ),
)
_CLIP = (
    Column(name="clip_id", type="integer", sql="i.audio_id", meaning="The clip's number."),
    Column(
        name="audio_sha256",
        type="text",
        sql="f.source_sha256",
        meaning="SHA-256 of the file that was uploaded; empty: not recorded, or the clip was erased.",
    ),
    Column(name="duration_s", type="number", unit="seconds", sql="f.duration_s", meaning="The clip's length."),
    Column(
        name="transcript_id", type="integer", sql="l.transcript_id", meaning="The transcript that the coder was shown."
    ),
    Column(name="asr_model", type="text", sql="t.model", meaning="The speech model that made this transcript."),
    Column(name="language", type="text", sql="t.language", meaning="The transcript's language, ISO 639-1."),
    Column(
        name="finding",
        type="text",
        sql="t.finding",
        meaning="speech, doubtful (speech that the text may miss) or no_speech.",
    ),
    Column(
        name="stratum", type="text", sql="i.stratum", meaning="The part of the archive from which the clip was drawn."
    ),
    Column(
        name="inclusion_probability",
        type="number",
        unit="0 to 1",
        sql="i.inclusion_probability",
        meaning="The probability with which the clip got into the study; 1 divided by it is its weight.",
    ),
    Column(name="position", type="integer", sql="i.position", meaning="The clip's place in the study's order."),
    Column(
        name="seed", type="integer", sql="s.seed", meaning="The seed by which the study's clips were drawn and ordered."
    ),
)
_JUDGEMENT = (
    Column(name="coder", type="text", sql="p.pseudonym", meaning="The pseudonym of the research assistant."),
    Column(
        name="coder_number",
        type="integer",
        sql="a.coder_number",
        meaning="The coder's place at this clip: 1 for the first.",
    ),
    Column(name="codebook", type="text", sql="l.codebook_id", meaning="The codebook."),
    Column(
        name="codebook_version",
        type="text",
        sql="l.codebook_version",
        meaning="Its version; codebooks.json has the content.",
    ),
    Column(name="labels", type="texts", sql="l.labels", meaning="The codes of the labels that were given."),
    Column(
        name="answers",
        type="json",
        sql="l.answers::text",
        meaning="The answers to the codebook's questions, by question.",
    ),
    Column(
        name="spans",
        type="parts",
        unit="seconds",
        sql="l.spans",
        meaning="The parts of the clip that the coder marked.",
    ),
    Column(
        name="confidence",
        type="integer",
        unit="1 to 3",
        sql="l.confidence",
        meaning="1 low, 2 medium, 3 high; empty: not given.",
    ),
    Column(name="note", type="text", sql="l.note", meaning="The coder's note, as it was written."),
    Column(name="opened_at", type="time", sql="a.opened_at", meaning="When the coder opened the clip first."),
    Column(name="submitted_at", type="time", sql="l.created_at", meaning="When this judgement was stored."),
    Column(
        name="active_ms",
        type="integer",
        unit="milliseconds",
        sql="l.active_ms",
        meaning="Time at work on the clip until this judgement, without pauses.",
    ),
    Column(
        name="heard_ms",
        type="integer",
        unit="milliseconds",
        sql="l.heard_ms",
        meaning="How much of the clip the coder had heard; a part that was heard twice counts once.",
    ),
    Column(name="heard", type="parts", unit="seconds", sql="l.heard", meaning="The parts that the coder had heard."),
    Column(
        name="shown_verdicts",
        type="integers",
        sql="l.classification_ids",
        meaning="The numbers of the verdicts that the coder had been shown; empty if none.",
    ),
)
_LATER = (
    Column(
        name="decision_id",
        type="integer",
        sql="d.decision_id",
        meaning="The newest decision on this clip after its coders disagreed; empty: none.",
    ),
    Column(name="decision_labels", type="texts", sql="d.labels", meaning="The labels that hold by that decision."),
    Column(
        name="decision_answers",
        type="json",
        sql="d.answers::text",
        meaning="The answers that hold by that decision.",
    ),
    Column(name="decision_reason", type="text", sql="d.reason", meaning="Why it was decided so."),
    Column(
        name="decision_from",
        type="integers",
        sql="d.label_ids",
        meaning="The label_ids that were compared for that decision (adjudicated from).",
    ),
    Column(
        name="reference_id",
        type="integer",
        sql="g.reference_id",
        meaning="The newest answer of reference for this clip and codebook; empty: none, or it was taken back.",
    ),
    Column(name="reference_labels", type="texts", sql="g.labels", meaning="The labels that the clip should get by it."),
    Column(
        name="reference_answers",
        type="json",
        sql="g.answers::text",
        meaning="The answers that the clip should get by it.",
    ),
)
ALWAYS = (*_LABEL, *_CLIP, *_JUDGEMENT, *_LATER)
TEXT = (Column(name="transcript", type="text", sql="t.text", meaning="The transcript that the coder was shown."),)
NAMES = (
    Column(name="file_name", type="text", sql="f.original_filename", meaning="The clip's file name in its archive."),
    Column(name="archive", type="text", sql="f.batch_id", meaning="The archive that the clip came in."),
)
