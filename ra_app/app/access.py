"""Who may see and hear a clip: whoever holds or has labelled it, and by their role leads and administrators.

That a clip is flagged gives nobody access.
"""

from __future__ import annotations

from app.models import User
from app.reviewing import claims
from app.roles import LEADS

READERS = LEADS  # may open and hear every clip, but label only what they hold


def may_read(user: User, audio_id: int) -> bool:
    return user.role in READERS or claims.slot_of(user.user_id, audio_id) is not None


def may_take(user: User, audio_id: int) -> bool:
    """Whether this person may ask for this very clip: one that they have held before, or any by their role."""
    return user.role in READERS or claims.once_held(user.user_id, audio_id) is not None
