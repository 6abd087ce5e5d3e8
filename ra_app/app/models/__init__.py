"""The tables that the app owns. All names begin with `ra_`, and only Flask-Migrate changes them.

`people` has accounts, `access` links that let people in and what was done to accounts, `studies` what is labelled and
how, `work` who works on what, `labels` the labels, `records` what is only ever added to, and `wellbeing` what protects
people from the clips.
"""

from __future__ import annotations

from app.models.access import AccountChange, Link
from app.models.base import Base, db
from app.models.labels import CONFIDENCES, NOTE_LENGTH, LabelRow
from app.models.people import ROLES, Identity, KnownNetwork, LoginAttempt, Pseudonym, User, new_pseudonym, no_password
from app.models.records import AuditEntry, Exposure
from app.models.studies import DEFAULT_STUDY, LEASE_S, SHOWS, PublishedCodebook, Study
from app.models.wellbeing import REPORTED, Preferences, WellbeingEntry
from app.models.work import STATES, Assignment, Decline, Draft, Item

__all__ = [
    "CONFIDENCES",
    "DEFAULT_STUDY",
    "LEASE_S",
    "NOTE_LENGTH",
    "REPORTED",
    "ROLES",
    "SHOWS",
    "STATES",
    "AccountChange",
    "Assignment",
    "AuditEntry",
    "Base",
    "Decline",
    "Draft",
    "Exposure",
    "Identity",
    "Item",
    "KnownNetwork",
    "LabelRow",
    "Link",
    "LoginAttempt",
    "Preferences",
    "Pseudonym",
    "PublishedCodebook",
    "Study",
    "User",
    "WellbeingEntry",
    "db",
    "new_pseudonym",
    "no_password",
]
