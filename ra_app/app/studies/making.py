"""Making a study, changing what was decided about it, and giving it more clips. Each is an act of a lead and recorded.

A study is made *paused*, with its clips drawn, so that a lead looks at it before anybody gets a clip. Mode and kind
cannot be changed once a label is stored; everything else can, and holds for labels from then on. Nothing here commits,
and the caller rolls back when a problem comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc

from app import acts
from app.codebooks.published import codebook_in_force
from app.models import Assignment, Item, Member, Study, User, db
from app.studies import drawing, protection, sampling, selection_form, slots
from app.studies.sampling import Measured
from app.studies.selection_form import Selection
from app.studies.settings_form import Settings

FIXED = ("mode", "kind")  # once a label is stored
MOST_SLOTS = 2_000_000  # of a study
TAKEN = "There is already a study with this name. Choose another one."
# What the fields are called in the record of acts.
WORDS = {
    "name": "name", "description": "description", "kind": "kind", "mode": "mode", "coders_per_item": "coders",
    "double_share": "share of clips with all coders", "everybody": "who takes part", "codebook_id": "codebook",
    "codebook_version": "codebook", "shows": "what of a clip is shown", "lease_s": "how long a clip is held",
    "shares_exposure": "minutes heard, to leads",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a selection gives: clips of each stratum (of a sample), clips in all, and slots, about."""

    measured: Measured | None
    wanted: Mapping[int, int]
    clips: int | None  # None: they come as they are flagged
    slots: int | None
    flagged_now: int | None = None  # of a study that takes clips up as they are flagged


def count(settings: Settings, selection: Selection) -> tuple[Count, dict[str, str]]:
    """Return what this selection gives, and problems by field."""
    problems: dict[str, str] = {}
    measured, wanted, clips = None, {}, None
    if selection.which == "sample":
        measured = sampling.measure(selection.frame)
        wanted = selection_form.wanted(selection, measured, problems)
        clips = sum(wanted.values())
    elif selection.which == "list":
        clips = len(selection.clips)
    if selection.which == "flagged":
        now = sampling.measure(selection.frame).stratum(sampling.FLAGGED_NUMBER).size
        some = slots.most_slots(settings.columns, now)
        return Count(measured=None, wanted={}, clips=None, slots=some, flagged_now=now), {}
    found = slots.most_slots(settings.columns, clips) if clips is not None else None
    if found is not None and found > MOST_SLOTS:
        problems["coders"] = f"That gives about {found} slots; a study has at most {MOST_SLOTS}. Choose fewer coders."
    return Count(measured=measured, wanted=wanted, clips=clips, slots=found), problems


def make(settings: Settings, selection: Selection, by: User) -> tuple[Study | None, dict[str, str]]:
    """Make the study with its clips. Return it, or None with problems by field."""
    study = Study(
        **settings.columns,
        state="paused",
        selection="flagged" if selection.which == "flagged" else "list",
        policies=list(selection.frame.policies) if selection.which != "list" else [],
        seed=selection.seed,
        created_by=by.user_id,
        settings={},
        design={"how": selection.which},
    )
    if settings.wellness:
        protection.put(study, settings.wellness)
    problem = _store(study)
    if problem:
        return None, problem
    clips = None
    if selection.which != "flagged":
        counted, problems = count(settings, selection)
        if problems:
            return None, problems
        clips = counted.clips
        if counted.measured is not None:
            drawing.draw(study, counted.measured, counted.wanted)
        else:
            drawing.add_listed(study, selection.clips)
    _set_members(study, settings.members)
    acts.note(by, "study-made", study=study, clips=clips, seed=study.seed, name=study.name)
    return study, {}


def change(study: Study, settings: Settings, by: User) -> dict[str, str]:
    """Change the study to these settings. Return problems by field; then nothing must be committed."""
    columns = dict(settings.columns)
    ours = codebook_in_force()
    if study.codebook_id is None and (columns["codebook_id"], columns["codebook_version"]) == (ours.id, ours.version):
        columns |= {"codebook_id": None, "codebook_version": None}  # it goes on with whatever the app is started with
    before = {key: getattr(study, key) for key in columns}
    changed = [key for key in columns if before[key] != columns[key]]
    if any(key in FIXED for key in changed) and has_labels(study):
        return {
            key: "Labels are stored in this study, so this cannot be changed any more. Make a new study."
            for key in FIXED
            if key in changed
        }
    for key in changed:
        setattr(study, key, columns[key])
    words = [WORDS[key] for key in changed]
    if protection.given(study) != settings.wellness:
        protection.put(study, settings.wellness)
        words.append("wellness")
    members = set(settings.members) if not study.everybody else set()
    if _set_members(study, members) and not study.everybody:
        words.append("members")
    problem = _store(study)
    if problem:
        return problem
    if {"coders_per_item", "double_share"} & set(changed):
        sampling.be_patient()
        slots.complete(study.study_id)
    if words:
        now = {key: columns[key] for key in changed}
        details = {"before": {key: before[key] for key in changed}, "after": now, "members": sorted(members)}
        acts.note(by, "study-changed", study=study, subject=", ".join(dict.fromkeys(words)), **details)
    return {}


def extend_sample(study: Study, more: Mapping[int, int], by: User) -> int:
    """Draw more clips of each stratum. Return how many; raises `drawing.ChangedFrameError`."""
    before = clips_of(study)
    drawing.extend(study, more)
    return _extended(study, before, by)


def extend_list(study: Study, clips: Iterable[int], by: User) -> int:
    """Add the clips that the study does not have yet. Return how many."""
    before = clips_of(study)
    drawing.add_listed(study, list(clips))
    return _extended(study, before, by)


def clips_of(study: Study) -> int:
    return db.session.scalar(sa.select(sa.func.count()).where(Item.study_id == study.study_id)) or 0


def has_labels(study: Study) -> bool:
    labelled = sa.exists().where(Assignment.study_id == study.study_id, Assignment.submitted_at.is_not(None))
    return bool(db.session.scalar(sa.select(labelled)))


def _extended(study: Study, before: int, by: User) -> int:
    added = clips_of(study) - before
    if added:
        acts.note(by, "study-extended", study=study, subject=f"{added} clip{'s' if added > 1 else ''}", clips=added)
    return added


def _store(study: Study) -> dict[str, str]:
    """Write the study; its name may be taken, also by the same form that was sent twice."""
    db.session.add(study)
    try:
        db.session.flush()
    except sqlalchemy.exc.IntegrityError as error:
        if "uq_ra_studies_name" not in str(error.orig):
            raise
        return {"name": TAKEN}
    return {}


def _set_members(study: Study, members: Iterable[int]) -> bool:
    """Let these people, and no others, be members. Return whether that changes something."""
    wanted = set(db.session.scalars(sa.select(User.user_id).where(User.user_id.in_(list(members)))))
    known = set(db.session.scalars(sa.select(Member.user_id).where(Member.study_id == study.study_id)))
    db.session.execute(sa.delete(Member).where(Member.study_id == study.study_id, Member.user_id.in_(known - wanted)))
    db.session.add_all(Member(study_id=study.study_id, user_id=number) for number in sorted(wanted - known))
    return wanted != known


def describe(study: Study) -> dict[str, Any]:
    """Return how the clips of a study were chosen, for its page."""
    design = study.design if isinstance(study.design, dict) else {}
    return {"how": design.get("how") or study.selection, **design}
