"""Keeps the content of each codebook version in the database. A version never means two things.

A deploy publishes the codebook (`flask codebook publish`). Where that was forgotten, the app does it at the first
request that needs the codebook. It does not at its start, because it also starts while Postgres is down.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from app.codebooks.codebook import Codebook, of_content
from app.errors import CodebookChangedError
from app.models import PublishedCodebook, Study, db
from app.state import state


def publish(codebook: Codebook) -> bool:
    """Store this version of the codebook, and return whether it is new. Commits.

    Raises
    ------
    CodebookChangedError
        This version was published with another content.
    """
    ours = codebook.sha256()
    insert = pg.insert(PublishedCodebook).values(
        codebook_id=codebook.id, version=codebook.version, sha256=ours, content=codebook.content()
    )
    added = db.session.execute(insert.on_conflict_do_nothing().returning(PublishedCodebook.sha256)).scalar()
    db.session.commit()
    kept = added or db.session.scalar(
        sa.select(PublishedCodebook.sha256).where(
            PublishedCodebook.codebook_id == codebook.id, PublishedCodebook.version == codebook.version
        )
    )
    if kept != ours:
        raise CodebookChangedError(
            f"The codebook {codebook.id} has been edited, but still says version {codebook.version}. Labels name a "
            "version, so its content must never change. Give the edited file a new version and run `flask codebook "
            "publish`, or put the old text back; the table ra_codebooks has it"
        )
    return added is not None


def codebook_of(study: Study) -> Codebook:
    """Return the codebook by which a study is labelled: the app's, or the published one that the study names.

    Raises
    ------
    CodebookChangedError
        As `publish` does, or the study names a codebook that was never published.
    """
    ours = codebook_in_force()
    named = (study.codebook_id, study.codebook_version)
    if named in {(None, None), (ours.id, ours.version)}:
        return ours
    content = db.session.scalar(
        sa.select(PublishedCodebook.content).where(
            PublishedCodebook.codebook_id == study.codebook_id, PublishedCodebook.version == study.codebook_version
        )
    )
    if content is None:
        raise CodebookChangedError(
            f"The study “{study.name}” is labelled by the codebook {study.codebook_id}, version "
            f"{study.codebook_version}, which was never published; name one of the table ra_codebooks in ra_studies"
        )
    return of_content(content)


def codebook_in_force() -> Codebook:
    """Return the app's codebook, which the database knows by this version and content. Checked once per process."""
    shared = state()
    if not shared.codebook_published.is_set():
        publish(shared.codebook)
        shared.codebook_published.set()
    return shared.codebook
