"""Postgres: everything that the pipeline stores there. The code is in `results/`; other packages import from here."""

from __future__ import annotations

from results.audit import AuditLog, Change, who
from results.connection import tls_options
from results.database import ClipRow, Database, FinishedBatch, NewClip
from results.erasure import ErasableClip, Erasures
from results.judged_text import Judged, JudgedText, NotJudged, text_sha256, text_to_judge
from results.level_archive import LevelArchive, StoredClip
from results.overview import PACE_MINUTES, Activity, BatchState, ClipState, DatabaseOverview
from results.rows import Verdict
from results.session import MIN_SERVER_VERSION, SCHEMA_VERSION
from results.transcript_archive import (
    ArchivedTranscript,
    Sample,
    SampledTranscript,
    Selection,
    TranscriptArchive,
    UnjudgedTranscript,
)
from results.verdicts import verdict_on
from results.wanted import WantedResults, WantedVerdict, judging, wanted_results

__all__ = [
    "MIN_SERVER_VERSION",
    "PACE_MINUTES",
    "SCHEMA_VERSION",
    "Activity",
    "ArchivedTranscript",
    "AuditLog",
    "BatchState",
    "Change",
    "ClipRow",
    "ClipState",
    "Database",
    "DatabaseOverview",
    "ErasableClip",
    "Erasures",
    "FinishedBatch",
    "Judged",
    "JudgedText",
    "LevelArchive",
    "NewClip",
    "NotJudged",
    "Sample",
    "SampledTranscript",
    "Selection",
    "StoredClip",
    "TranscriptArchive",
    "UnjudgedTranscript",
    "Verdict",
    "WantedResults",
    "WantedVerdict",
    "judging",
    "text_sha256",
    "text_to_judge",
    "tls_options",
    "verdict_on",
    "wanted_results",
    "who",
]
