"""From the log-in through three clips to the log-out: by keys alone, and by the accessibility tree alone."""

from __future__ import annotations

from bench.ra.figures import Figure
from bench.ra.site import Site
from tests.ra_app.journeys import by_keyboard, by_tree

CLIPS = 3


def measure(site: Site) -> list[Figure]:
    site.filling.clips(20)
    with site.visitor(None) as page:
        keys = by_keyboard(page, CLIPS)
    site.filling.clips(20)
    with site.visitor(None) as page:
        steps = by_tree(page, CLIPS)
    stored = site.world.sql("SELECT count(*) FROM ra_labels WHERE labels ->> 0 = 'hate' AND confidence = 3")[0][0]
    return [
        Figure(f"log-in, {CLIPS} clips, log-out by keys alone", "possible", f"yes, {keys} keys", True),
        Figure(
            f"log-in, {CLIPS} clips, log-out by role and name alone",
            "possible",
            f"yes, {steps} steps; text, slider, marked part, label, confidence, messages",
            stored == CLIPS,
        ),
    ]
