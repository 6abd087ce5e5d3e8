"""Three coders of the demo: they label clips in the RA app like people who agree mostly, and err each in their own way.

What they answer depends only on their name and the clip's number. Clips are numbered in the order in which they were
processed, so two runs of the demo show similar numbers, not the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from local.demo_person import Person, PersonError

NOTHING, UNSURE = "no_violation", "unsure"  # codes of the app's codebook
_CLIP = re.compile(r"/review/(\d+)$")
_NOTES = ("Hard to hear in the middle.", "Could be a joke.", "Said at the end.")


@dataclass(frozen=True)
class Habits:
    """How often a coder errs: shares of the clips."""

    username: str
    misses: float  # a label that applies is not given
    invents: float  # a label is given that does not apply
    unsure: float


CODERS = (
    Habits("coder-1", misses=0.06, invents=0.03, unsure=0.02),
    Habits("coder-2", misses=0.15, invents=0.03, unsure=0.05),
    Habits("coder-3", misses=0.05, invents=0.12, unsure=0.02),
)


@dataclass(frozen=True)
class Truth:
    """What applies to a clip by the samples' manifest, and how long the clip is."""

    labels: frozenset[str]
    duration_s: float


def label_all(coder: Habits, person: Person, truths: Mapping[int, Truth], most: int) -> int:
    """Let the coder label clips until there is none for them, `most` at most. Return how many were labelled.

    Raises
    ------
    PersonError
        A page of the app did not answer as expected, or a clip came that `truths` does not have.
    """
    for done in range(most):
        found = _CLIP.search(person.submit("/", "/next").url.path)
        if found is None:
            return done
        clip = int(found[1])
        if clip not in truths:
            raise PersonError(f"{coder.username} got clip {clip}, which is no sample")
        person.submit(f"/review/{clip}", f"/review/{clip}", _answer(coder, clip, truths[clip]))
    return most


def _answer(coder: Habits, clip: int, truth: Truth) -> dict[str, str | list[str]]:
    random = Random(f"{coder.username} {clip}")  # noqa: S311 - nothing secret
    chosen = {code for code in sorted(truth.labels) if random.random() >= coder.misses}
    if random.random() < coder.invents:
        chosen.add(random.choice(("hate", "scam", "other")))
    labels = [UNSURE] if random.random() < coder.unsure else sorted(chosen) or [NOTHING]
    heard_s = round(truth.duration_s * (1 - 0.3 * random.random()), 1)
    return {
        "label": labels,
        "confidence": random.choice(("2", "3", "3")),
        "note": random.choice(_NOTES) if labels == [UNSURE] else "",
        "heard": json.dumps([[0, heard_s]]),
        "active_ms": str(int(1000 * heard_s) + random.randrange(2_000, 9_000)),
    }
