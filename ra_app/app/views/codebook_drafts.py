"""The editor of codebooks, for leads: a draft, what it changes, and its publication. It works without JavaScript."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.codebooks import diff, drafts, editing, versions
from app.codebooks.drafts import DraftError, StaleError
from app.errors import CodebookError
from app.models import CodebookDraft, User, db
from app.roles import LEADS, needs
from app.views.codebooks import CODEBOOK

blueprint = Blueprint("codebook_drafts", __name__, url_prefix="/codebooks")

DRAFT = CODEBOOK + "/draft"

blueprint.app_template_filter("option_line")(editing.option_line)


@blueprint.post(CODEBOOK + "/begin")
@needs(*LEADS)
def begin(codebook_id: str) -> ResponseReturnValue:
    """Start a draft from a published version."""
    version = request.form.get("version", "")
    base = versions.find(codebook_id, version)
    if base is None:
        abort(404)
    try:
        drafts.begin(g.viewer, codebook_id, editing.of_published(base.content()), version)
    except DraftError as error:
        flash(str(error), "error")
    return redirect(url_for("codebook_drafts.edit", codebook_id=codebook_id))


@blueprint.get(DRAFT)
@needs(*LEADS)
def edit(codebook_id: str) -> ResponseReturnValue:
    draft = _found(codebook_id)
    return _editor(codebook_id, draft.content, draft)


@blueprint.post(DRAFT)
@needs(*LEADS)
def save(codebook_id: str) -> ResponseReturnValue:
    """Store what was typed, and do what the button says. Every button stores."""
    act = request.form.get("act", "")
    typed = editing.of_form(request.form, codebook_id)
    content, place = editing.press(typed, act)
    try:
        drafts.save(g.viewer, codebook_id, _revision(), content, act)
    except StaleError as error:
        return _conflict(codebook_id, typed, str(error)), 409
    if act == "compare":
        return redirect(url_for("codebook_drafts.changes", codebook_id=codebook_id))
    flash("The draft is stored.", "info")
    return redirect(url_for("codebook_drafts.edit", codebook_id=codebook_id, _anchor=place or None))


@blueprint.post(DRAFT + "/again")
@needs(*LEADS)
def again(codebook_id: str) -> ResponseReturnValue:
    """Make a draft of what was typed after somebody else has published or thrown away the draft."""
    typed = editing.of_form(request.form, codebook_id)
    content, _ = editing.press(typed, request.form.get("act", ""))
    try:
        drafts.begin(g.viewer, codebook_id, content, drafts.newest(codebook_id))
    except DraftError as error:
        return _conflict(codebook_id, typed, str(error)), 409
    return redirect(url_for("codebook_drafts.edit", codebook_id=codebook_id))


@blueprint.get(DRAFT + "/changes")
@needs(*LEADS)
def changes(codebook_id: str) -> ResponseReturnValue:
    """What the draft changes, and the form that publishes it."""
    return _changes(_found(codebook_id))


@blueprint.post(DRAFT + "/publish")
@needs(*LEADS)
def publish(codebook_id: str) -> ResponseReturnValue:
    draft = _found(codebook_id)
    version, note = request.form.get("version", "").strip(), request.form.get("note", "").replace("\r\n", "\n").strip()
    try:
        made = drafts.publish(g.viewer, codebook_id, _revision(), version, note)
    except StaleError as error:
        return _changes(_found(codebook_id), f"{error} Read what it changes now, and publish it then."), 409
    except DraftError as error:
        return _changes(draft, str(error)), 422
    except CodebookError as error:
        return _changes(draft, f"The draft is not complete: {error.mistakes[0].place}: {error.mistakes[0].reason}"), 422
    flash(f"Version {made.version} is published. A study uses it when you choose it on the study's page.", "info")
    return redirect(url_for("codebooks.show", codebook_id=codebook_id, version=made.version))


@blueprint.post(DRAFT + "/discard")
@needs(*LEADS)
def discard(codebook_id: str) -> ResponseReturnValue:
    try:
        drafts.discard(g.viewer, codebook_id, _revision())
    except StaleError as error:
        flash(f"{error} Nothing was thrown away.", "error")
        return redirect(url_for("codebooks.index"))
    flash("The draft is thrown away.", "info")
    return redirect(url_for("codebooks.index"))


def _editor(codebook_id: str, content: dict[str, Any], draft: CodebookDraft | None, **more: Any) -> str:
    found = editing.mistakes(content)
    known = versions.known_policies()
    return render_template(
        "codebook_draft.html",
        codebook_id=codebook_id,
        content=content,
        draft=draft,
        changed_by=_name(draft),
        count=len(found),
        problems=editing.beside(found),
        policies=known,
        most=editing.MOST,
        **{"others": None, "said": "", **more},
    )


def _conflict(codebook_id: str, typed: dict[str, Any], said: str) -> str:
    """The editor with what was typed, and what that would change of what is stored by now."""
    draft = drafts.find(codebook_id)
    others = diff.compare(draft.content, typed) if draft is not None else []
    return _editor(codebook_id, typed, draft, others=others, said=said)


def _changes(draft: CodebookDraft, problem: str = "") -> str:
    base = versions.find(draft.codebook_id, draft.based_on) if draft.based_on else None
    found = diff.compare(base.content() if base is not None else None, draft.content)
    proposed = drafts.next_version(draft.codebook_id)
    return render_template(
        "codebook_changes.html",
        draft=draft,
        changed_by=_name(draft),
        base=base,
        changes=found,
        in_use=versions.in_use(draft.codebook_id, found),
        count=len(editing.mistakes(draft.content)),
        newest=drafts.newest(draft.codebook_id),
        version=request.form.get("version", proposed),
        note=request.form.get("note", ""),
        note_length=drafts.NOTE_LENGTH,
        problem=problem,
    )


def _found(codebook_id: str) -> CodebookDraft:
    draft = drafts.find(codebook_id)
    if draft is None:
        abort(404)
    return draft


def _name(draft: CodebookDraft | None) -> str | None:
    if draft is None or draft.changed_by is None:
        return None
    changer = db.session.get(User, draft.changed_by)
    return changer.username if changer is not None else None


def _revision() -> int:
    text = request.form.get("revision", "")
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else -1
