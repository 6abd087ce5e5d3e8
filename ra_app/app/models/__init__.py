"""The tables that the app owns. All names begin with `ra_`, and only Flask-Migrate changes them.

`people` has accounts, `access` links that let people in and what was done to accounts, `studies` what is labelled and
how, `leading` what leads decide, `work` who works on what, `labels` the labels, `records` what is only ever added to,
and `wellbeing` what protects people from the clips.
"""

from __future__ import annotations

from app.models.access import AccountChange, Link
from app.models.base import Base, db
from app.models.labels import CONFIDENCES, NOTE_LENGTH, LabelRow
from app.models.leading import Act, CodebookDraft, Decision, Export, Receipt, Reference
from app.models.people import ROLES, Identity, KnownNetwork, LoginAttempt, Pseudonym, User, new_pseudonym, no_password
from app.models.records import AuditEntry, Exposure
from app.models.studies import DEFAULT_STUDY, LEASE_S, SHOWS, Member, PublishedCodebook, Study
from app.models.wellbeing import BREAKS, OF_CLIPS, Preferences, WellbeingEntry
from app.models.work import STATES, Assignment, Decline, Draft, Item

__all__ = [
    "BREAKS",
    "CONFIDENCES",
    "DEFAULT_STUDY",
    "LEASE_S",
    "NOTE_LENGTH",
    "OF_CLIPS",
    "ROLES",
    "SHOWS",
    "STATES",
    "AccountChange",
    "Act",
    "Assignment",
    "AuditEntry",
    "Base",
    "CodebookDraft",
    "Decision",
    "Decline",
    "Draft",
    "Export",
    "Exposure",
    "Identity",
    "Item",
    "KnownNetwork",
    "LabelRow",
    "Link",
    "LoginAttempt",
    "Member",
    "Preferences",
    "Pseudonym",
    "PublishedCodebook",
    "Receipt",
    "Reference",
    "Study",
    "User",
    "WellbeingEntry",
    "db",
    "new_pseudonym",
    "no_password",
]
