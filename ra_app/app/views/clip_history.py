"""The page of one clip, for leads: where it comes from and all that was made of it."""

from __future__ import annotations

from flask import Blueprint, abort, g, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from app import acts
from app.models import db
from app.roles import LEADS, needs
from app.search import clip_blindness, clip_history
from app.views.review import CLIP

blueprint = Blueprint("clip_history", __name__, url_prefix="/clips")

blueprint.app_template_filter("doubts_of")(clip_history.doubts)


@blueprint.get(CLIP)
@needs(*LEADS)
def show(audio_id: int) -> ResponseReturnValue:
    """Show all of the clip. Who holds it unlabelled sees no verdict and no label of others, and is asked."""
    found = clip_history.origin(audio_id)
    if found is None:
        abort(404)
    asks = clip_blindness.asks_first(g.viewer, audio_id)
    said = None if asks else clip_history.judgements(audio_id)
    page = render_template(
        "clip.html",
        found=found,
        clip=found.clip,
        said=said,
        events=clip_history.events(found, said, g.viewer.user_id),
    )
    if said is not None and (said.verdicts or said.labels or said.references or said.decisions):
        clip_blindness.note_seen(g.viewer, audio_id)
    acts.note(g.viewer, "clip-opened", subject=str(audio_id), verdicts_shown=said is not None)
    db.session.commit()
    return page


@blueprint.post(CLIP + "/reveal")
@needs(*LEADS)
def reveal(audio_id: int) -> ResponseReturnValue:
    """Show the verdicts to somebody who holds the clip unlabelled: their label will not count as blind."""
    if clip_history.origin(audio_id) is None:
        abort(404)
    clip_blindness.note_seen(g.viewer, audio_id)
    db.session.commit()
    return redirect(url_for("clip_history.show", audio_id=audio_id))
