"""All pages of the app. `create_app` registers them; which roles may open which is said at each view."""

from __future__ import annotations

from app.views import (
    agreement,
    audio,
    auth,
    classifier,
    clip_history,
    codebook_drafts,
    codebooks,
    decisions,
    desk,
    exports,
    health,
    join,
    me,
    people,
    presence,
    queue,
    references,
    review,
    scripts,
    search,
    sso,
    studies,
    study_forms,
    study_plan,
    training,
    wellbeing,
)

ENTRANCES = (auth, join, sso, health)
REVIEW = (queue, review, desk, presence, wellbeing, audio, scripts, me, training)
STUDIES = (studies, study_forms, study_plan, codebooks, codebook_drafts, search, clip_history, people)
RESULTS = (references, agreement, decisions, classifier, exports)

BLUEPRINTS = tuple(view.blueprint for view in (*ENTRANCES, *REVIEW, *STUDIES, *RESULTS))
