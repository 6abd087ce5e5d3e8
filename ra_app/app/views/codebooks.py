"""The pages of codebooks, for leads: all versions, one version, and what changed between two."""

from __future__ import annotations

import json

from flask import Blueprint, Response, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage

from app.codebooks import diff, editing, versions
from app.codebooks import drafts as codebook_drafts
from app.codebooks.codebook import Codebook, of_toml
from app.codebooks.drafts import DraftError
from app.codebooks.toml import to_toml
from app.errors import CodebookError
from app.models import CodebookDraft, db
from app.roles import LEADS, needs

blueprint = Blueprint("codebooks", __name__, url_prefix="/codebooks")

CODEBOOK = "/<codebook_id>"
VERSION = "/<path:version>"


@blueprint.get("")
@needs(*LEADS)
def index() -> ResponseReturnValue:
    return _index()


@blueprint.post("/new")
@needs(*LEADS)
def new() -> ResponseReturnValue:
    """Start a codebook that has no version yet."""
    codebook_id, title = request.form.get("id", "").strip(), " ".join(request.form.get("title", "").split())
    try:
        codebook_drafts.begin_new(g.viewer, codebook_id, title)
    except DraftError as error:
        return _index(new_problem=str(error)), 422
    return redirect(url_for("codebook_drafts.edit", codebook_id=codebook_id))


@blueprint.post("/upload")
@needs(*LEADS)
def upload() -> ResponseReturnValue:
    """Start a draft from a TOML file. Its version is not taken over: the draft gets one when it is published."""
    sent = request.files.get("file")
    try:
        made = of_toml(_text_of(sent), (sent.filename if sent is not None else None) or "the file")
        base = versions.find(made.id, made.version)
        based_on = base.version if base is not None else codebook_drafts.newest(made.id)
        codebook_drafts.begin(g.viewer, made.id, editing.of_published(made.content()), based_on)
    except CodebookError as error:
        lines = [f"{mistake.place}: {mistake.reason}" for mistake in error.mistakes] or [error.message]
        return _index(upload_problems=lines), 422
    except DraftError as error:
        return _index(upload_problems=[str(error)]), 422
    flash("The file is a draft now. Nobody labels by it before you publish it.", "info")
    return redirect(url_for("codebook_drafts.edit", codebook_id=made.id))


@blueprint.get(CODEBOOK + "/versions" + VERSION)
@needs(*LEADS)
def show(codebook_id: str, version: str) -> ResponseReturnValue:
    """One version as it was published."""
    entries = [entry for entry in versions.all_versions() if entry.codebook_id == codebook_id]
    this = next((entry for entry in entries if entry.version == version), None)
    if this is None:
        abort(404)
    return render_template(
        "codebook.html",
        codebook=_found(codebook_id, version),
        this=this,
        others=[entry.version for entry in entries if entry.version != version],
        draft=codebook_drafts.find(codebook_id),
    )


@blueprint.get(CODEBOOK + "/toml" + VERSION)
@needs(*LEADS)
def toml(codebook_id: str, version: str) -> ResponseReturnValue:
    return _file(to_toml(_found(codebook_id, version)), f"{codebook_id}-{version}.toml", "application/toml")


@blueprint.get(CODEBOOK + "/json" + VERSION)
@needs(*LEADS)
def content(codebook_id: str, version: str) -> ResponseReturnValue:
    made = json.dumps(_found(codebook_id, version).content(), ensure_ascii=False, indent=2)
    return _file(made + "\n", f"{codebook_id}-{version}.json", "application/json")


@blueprint.get(CODEBOOK + "/compare")
@needs(*LEADS)
def compare(codebook_id: str) -> ResponseReturnValue:
    """What changed from the version `old` to the version `new`."""
    old, new = (_found(codebook_id, request.args.get(name, "")) for name in ("old", "new"))
    changes = diff.compare(old.content(), new.content())
    return render_template("codebook_compare.html", old=old, new=new, changes=changes)


def _index(new_problem: str = "", upload_problems: list[str] | None = None) -> str:
    drafts = db.session.query(CodebookDraft).order_by(CodebookDraft.codebook_id).all()
    return render_template(
        "codebooks.html",
        versions=versions.all_versions(),
        drafts=drafts,
        new_problem=new_problem,
        upload_problems=upload_problems or [],
        typed=request.form,
    )


def _text_of(sent: FileStorage | None) -> str:
    """The text of a file that was sent.

    Raises
    ------
    DraftError
        There is none, or it is no text.
    """
    if sent is None or not sent.filename:
        raise DraftError("Choose a TOML file first.")
    try:
        content: bytes = sent.read()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DraftError("This file is no text in UTF-8. Choose a TOML file.") from error


def _found(codebook_id: str, version: str) -> Codebook:
    found = versions.find(codebook_id, version)
    if found is None:
        abort(404)
    return found


def _file(text: str, name: str, kind: str) -> Response:
    answer = Response(text, mimetype=kind)
    answer.headers.set("Content-Disposition", "attachment", filename=name)
    return answer
