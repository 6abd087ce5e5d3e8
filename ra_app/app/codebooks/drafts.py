"""Drafts of codebooks, and how a draft becomes a version. Two leads may edit: who saves on an old state is told.

Each function commits what it does together with its entry in the record of acts.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from app import acts
from app.codebooks import editing
from app.codebooks.codebook import Codebook, of_content
from app.models import CodebookDraft, PublishedCodebook, User, db

NOTE_LENGTH = 2000  # characters
_ID = re.compile(r"(?=.{1,64}$)[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,31}")


class DraftError(Exception):
    """The sentence says why this cannot be done and what to do."""


class StaleError(DraftError):
    """Somebody else has changed, published or thrown away the draft since the page was opened."""


def find(codebook_id: str) -> CodebookDraft | None:
    return db.session.get(CodebookDraft, codebook_id, populate_existing=True)


def begin(by: User, codebook_id: str, content: Mapping[str, Any], based_on: str | None) -> None:
    """Start a draft with this content.

    Raises
    ------
    DraftError
        There is one already.
    """
    insert = pg.insert(CodebookDraft).values(
        codebook_id=codebook_id,
        content=content,
        based_on=based_on,
        revision=secrets.randbelow(2**30),  # so that a page of an earlier draft is not taken for one of this draft
        changed_by=by.user_id,
    )
    if db.session.execute(insert.on_conflict_do_nothing().returning(CodebookDraft.codebook_id)).scalar() is None:
        db.session.rollback()
        raise DraftError(f"There is a draft of “{codebook_id}” already. Edit it, or throw it away first.")
    acts.note(by, "codebook-drafted", subject=codebook_id, begun_from=based_on)
    db.session.commit()


def begin_new(by: User, codebook_id: str, title: str) -> None:
    """Start a codebook that has no version yet.

    Raises
    ------
    DraftError
        The name is not valid or taken, or the title is missing.
    """
    if not _ID.fullmatch(codebook_id):
        raise DraftError("Choose a name of small letters, digits and hyphens, for example short-clips; at most 64.")
    if newest(codebook_id) is not None:
        raise DraftError(f"There is a codebook “{codebook_id}” already. Start a draft from one of its versions.")
    if not title:
        raise DraftError("Write a title. Research assistants see it above the definitions.")
    begin(by, codebook_id, editing.blank(codebook_id, title), None)


def save(by: User, codebook_id: str, revision: int, content: Mapping[str, Any], act: str) -> None:
    """Store what was typed, if the draft is still as the page showed it. Nothing changed: nothing is noted.

    Raises
    ------
    StaleError
        The draft is another one by now, or is gone.
    """
    draft = _current(codebook_id, revision)
    if draft.content != content:
        draft.content, draft.changed_by = dict(content), by.user_id
        draft.revision, draft.changed_at = draft.revision + 1, sa.func.now()
        acts.note(by, "codebook-drafted", subject=codebook_id, button=act or "save", revision=draft.revision)
    db.session.commit()


def discard(by: User, codebook_id: str, revision: int) -> None:
    """Throw the draft away; the record of acts keeps its content. Errors as of `save`."""
    draft = _current(codebook_id, revision)
    acts.note(by, "codebook-discarded", subject=codebook_id, content=draft.content, based_on=draft.based_on)
    db.session.delete(draft)
    db.session.commit()


def publish(by: User, codebook_id: str, revision: int, version: str, note: str) -> Codebook:
    """Make the draft a version, which never changes again.

    Raises
    ------
    StaleError
        As of `save`.
    DraftError
        The version is taken or no valid name.
    CodebookError
        The draft is not complete.
    """
    draft = _current(codebook_id, revision)
    if not _VERSION.fullmatch(version):
        raise DraftError(
            "Name the version with letters, digits, dots and hyphens, for example 4; at most 32 characters."
        )
    if len(note) > NOTE_LENGTH:
        raise DraftError(f"The note has {len(note)} characters. Shorten it to {NOTE_LENGTH} or fewer.")
    made = of_content({**draft.content, "version": version}, f"the draft of {codebook_id}")
    insert = pg.insert(PublishedCodebook).values(
        codebook_id=codebook_id,
        version=version,
        sha256=made.sha256(),
        content=made.content(),
        published_by=by.user_id,
        note=note,
    )
    if db.session.execute(insert.on_conflict_do_nothing().returning(PublishedCodebook.version)).scalar() is None:
        raise DraftError(f"Version {version} is published already, and a version never changes. Choose another name.")
    db.session.delete(draft)
    subject = f"{codebook_id}, version {version}"
    acts.note(by, "codebook-published", subject=subject, sha256=made.sha256(), based_on=draft.based_on)
    db.session.commit()
    return made


def newest(codebook_id: str) -> str | None:
    """Return the version that was published last."""
    of_this = sa.select(PublishedCodebook.version).where(PublishedCodebook.codebook_id == codebook_id)
    return db.session.scalar(of_this.order_by(PublishedCodebook.published_at.desc(), PublishedCodebook.version.desc()))


def next_version(codebook_id: str) -> str:
    """Return the number after the largest that is published; other names of versions do not count."""
    of_this = sa.select(PublishedCodebook.version).where(PublishedCodebook.codebook_id == codebook_id)
    numbers = [int(version) for version in db.session.scalars(of_this) if re.fullmatch(r"[0-9]{1,9}", version)]
    return str(max(numbers, default=0) + 1)


def _current(codebook_id: str, revision: int) -> CodebookDraft:
    """Return the draft, locked, if it has this revision."""
    draft = db.session.get(CodebookDraft, codebook_id, with_for_update=True, populate_existing=True)
    if draft is None or draft.revision != revision:
        db.session.rollback()
        raise StaleError("Somebody else has changed this draft since you opened the page.")
    return draft
