"""The study of the demo: a lead draws a sample, three coders label it, and the lead decides where they disagree.

All of it goes through the RA app's own pages, as people would do it. So leads find a study with labels, disagreements
and results when the demo has started, and the pictures of their guide show the same.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from local.demo_coders import CODERS, NOTHING, Habits, Truth, label_all
from local.demo_person import Person, PersonError

NAME = "Do coders and the model agree?"
EXPORT = "demo-study"
EXPORT_S = 60.0
_STUDY = re.compile(r"/studies/(\d+)$")
_DECISION = re.compile(r'href="(/studies/\d+/decisions/(\d+))[?"]')
_EXPORT = re.compile(rf'href="(/exports/\d+)">{EXPORT}<')
_CLIPS = re.compile(r"<dt>Clips</dt><dd>(\d+)</dd>")
_CLIP = re.compile(r"Clip (\d+)")
MOST_DECISIONS = 500


@dataclass(frozen=True)
class Played:
    """What there is afterwards."""

    study_id: int
    labels: int
    decisions: int

    def __str__(self) -> str:
        return f"{self.labels} labels of three coders, {self.decisions} decisions of a lead"


def play(
    address: str,
    lead: Person,
    passwords: Mapping[str, str],
    truths: Mapping[int, Truth],
    *,
    rest: int = 8,
    undecided: int = 0,
    coders: Sequence[Habits] = CODERS,
) -> Played | None:
    """Play the study, and return what came of it; None if it is there already.

    `truths` says for each clip what applies to it. `rest` clips that are not flagged are in the sample; `undecided`
    clips on which the coders disagree are left for whoever uses the demo.

    Raises
    ------
    PersonError
        A page of the app did not answer as expected.
    """
    if escape(NAME) in lead.open("/studies").text:
        return None
    study = make(lead, [coder.username for coder in coders], rest)
    clips = _CLIPS.search(lead.open(f"/studies/{study}").text)
    if clips is None:
        raise PersonError("the page of the study does not say how many clips it has")
    labels = 0
    for coder in coders:
        with Person(address, coder.username, passwords[coder.username]) as person:
            labels += label_all(coder, person, truths, most=int(clips[1]))
    return Played(study, labels, decide(lead, study, truths, undecided))


def make(lead: Person, members: Sequence[str], rest: int) -> int:
    """Make and open the study, and return its number."""
    form = {
        "act": "make", "which": "sample", "flagged": "all", "bounds": "80%", "rest": str(rest), "seed": "2026",
        "name": NAME, "mode": "reveal", "kind": "study", "coders": str(len(members)), "share": "100",
        "description": "All flagged clips, and some of the others, labelled by three people each.",
        "everybody": "no", "members": [_number_of(lead, name) for name in members],
    }  # fmt: skip
    made = _STUDY.search(lead.submit("/studies/new", "/studies/new", form).url.path)
    if made is None:
        raise PersonError("the page of the new study did not follow its form")
    lead.submit(f"/studies/{made[1]}", f"/studies/{made[1]}/open")
    return int(made[1])


def decide(lead: Person, study: int, truths: Mapping[int, Truth], left: int = 0) -> int:
    """Decide by `truths` on the clips on which coders disagree, all but `left` of them. Return how many these were."""
    for done in range(MOST_DECISIONS):
        waiting = dict.fromkeys(_DECISION.findall(lead.open(f"/studies/{study}/decisions").text))
        if len(waiting) <= left:
            return done
        path, _ = next(iter(waiting))
        clip = _CLIP.search(lead.open(path).text)
        if clip is None:
            raise PersonError(f"{path} does not name its clip")
        labels = sorted(truths[int(clip[1])].labels) or [NOTHING]
        lead.submit(path, path, {"label": labels, "reason": "As the codebook defines it, heard twice."})
    return MOST_DECISIONS


def order_export(lead: Person, study: int) -> str:
    """Order an export of the study in all formats, and return the path of its page."""
    formats = ["csv", "parquet", "web-annotation", "label-studio"]
    lead.submit("/exports", "/exports", {"name": EXPORT, "study": [str(study)], "format": formats})
    found = _EXPORT.search(lead.open("/exports").text)
    if found is None:
        raise PersonError("the export that was ordered is not on the page of exports")
    return found[1]


def wait_for_export(lead: Person, path: str, within_s: float = EXPORT_S) -> None:
    """Wait until the files of an export are there.

    Raises
    ------
    PersonError
        They are not there in time.
    """
    deadline = time.monotonic() + within_s
    while "SHA-256" not in lead.open(path).text:
        if time.monotonic() > deadline:
            raise PersonError(f"the export of {path} was not made within {within_s:.0f} s")
        time.sleep(0.5)


def _number_of(lead: Person, username: str) -> str:
    page = lead.open("/studies/new").text
    found = re.search(rf'name="members" value="(\d+)"[^>]*>\s*{re.escape(username)}\b', page)
    if found is None:
        raise PersonError(f"nobody named {username} can take part in a study")
    return found[1]
