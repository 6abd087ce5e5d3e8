"""What the review page sends by itself: signs of life, which renew the lease, and drafts. Answers are short JSON.

`state` says how things stand: held, kept, done (labelled or set aside), stale (a newer label is stored), lost (somebody
else has the clip). The page goes on without an answer: it reports again, and the browser keeps the draft, too.
"""

from __future__ import annotations

import re

from flask import Blueprint, abort, g, request
from flask.typing import ResponseReturnValue

from app.codebooks.published import codebook_in_force
from app.models import db
from app.reviewing import claims, drafts, labelling, records, submitting
from app.reviewing.submission import read_submission, slot_named
from app.views.review import CLIP

blueprint = Blueprint("presence", __name__, url_prefix="/review")

_NUMBER = re.compile(r"[0-9]{1,18}")


@blueprint.post(CLIP + "/heartbeat")
def heartbeat(audio_id: int) -> ResponseReturnValue:
    """Renew the lease of a held clip, and add what was heard and how long the reviewer was at work.

    `also` names the clips that the page has for later, which are renewed with it.
    """
    slot = claims.slot_of(g.viewer.user_id, audio_id, lock=True)
    if slot is None:
        return _without_slot(audio_id)
    records.report(slot, g.viewer.user_id, request.form)
    also = [int(number) for number in _NUMBER.findall(request.form.get("also", "")[:100])]
    seconds = claims.renew(g.viewer.user_id, [audio_id, *also]).get(audio_id)
    db.session.commit()
    return {"state": "done"} if seconds is None else {"state": "held", "seconds": seconds}


@blueprint.post(CLIP + "/draft")
def draft(audio_id: int) -> ResponseReturnValue:
    """Keep the unsent form. Also for a clip that went to somebody else, so that nothing that was written is lost."""
    user_id, named = g.viewer.user_id, slot_named(request.form)
    codebook_in_force()  # before a row is locked: the first time it commits
    slot = claims.slot_of(user_id, audio_id, named, lock=True)
    codebook = submitting.codebook_for(user_id, audio_id, named, slot)
    submission = read_submission(request.form, request.form.getlist("label"), codebook)
    if slot is None:
        held = claims.once_held(user_id, audio_id, named)
        if held is not None:
            drafts.keep(held, user_id, submission, None)
            db.session.commit()
        return _without_slot(audio_id)
    if labelling.is_stored(slot, submission) or labelling.is_stale(slot, submission):
        return {"state": "stale"}, 409
    at = drafts.keep(slot.assignment_id, user_id, submission, submission.base)
    db.session.commit()
    return {"state": "kept", "at": at}


def _without_slot(audio_id: int) -> ResponseReturnValue:
    if claims.once_held(g.viewer.user_id, audio_id) is None:
        abort(404)
    return {"state": "lost"}, 409
