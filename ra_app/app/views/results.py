"""The pages of a study's results, in one place: leads' own, and what those who train see of theirs."""

from __future__ import annotations

from app.views import agreement, classifier, decisions, references, training

PAGES = (references, agreement, decisions, classifier, training)
