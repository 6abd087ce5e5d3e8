"""Postgres: everything that the pipeline stores there. The code is in `results/`; other packages import from here."""

from __future__ import annotations

from results.audit import AuditLog, Change, who
from results.connection import tls_options
from results.database import MIN_SERVER_VERSION, SCHEMA_VERSION, ClipRow, Database, FinishedBatch, NewClip
from results.overview import PACE_MINUTES, Activity, BatchState, ClipState, DatabaseOverview
from results.rows import Verdict
from results.transcript_archive import (
    ArchivedTranscript,
    Sample,
    SampledTranscript,
    Selection,
    TranscriptArchive,
    UnjudgedTranscript,
    WantedVerdict,
)
from results.wanted import WantedResults, wanted_results

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
    "FinishedBatch",
    "NewClip",
    "Sample",
    "SampledTranscript",
    "Selection",
    "TranscriptArchive",
    "UnjudgedTranscript",
    "Verdict",
    "WantedResults",
    "WantedVerdict",
    "tls_options",
    "wanted_results",
    "who",
]
