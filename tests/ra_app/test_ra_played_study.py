"""The study that the demo plays: drawn, labelled by three coders, decided, and read on its pages, all over HTTP."""

from __future__ import annotations

from random import Random

from local.demo_coders import CODERS, Truth
from local.demo_person import Person
from local.demo_study import NAME, play
from tests.ra_app.world import PASSWORD, World

FLAGGED, OTHERS, REST = 7, 6, 4


def test_the_demos_study_has_labels_decisions_and_results(world: World, address: str) -> None:
    random = Random(5)  # noqa: S311 - nothing secret
    for name, role in (("lea", "lead"), *((coder.username, "ra") for coder in CODERS)):
        world.add_user(name, role=role)
    clips = [world.add_clip(score=random.uniform(0.6, 1)) for _ in range(FLAGGED)]
    clips += [world.add_clip(violates=False, score=random.uniform(0, 0.4)) for _ in range(OTHERS)]
    truths = {clip: Truth(frozenset({"hate"} if clip in clips[:FLAGGED] else ()), 10.0) for clip in clips}
    passwords = {coder.username: PASSWORD for coder in CODERS}
    with Person(address, "lea", PASSWORD) as lead:
        played = play(address, lead, passwords, truths, rest=REST, undecided=1)
        assert played is not None
        assert played.labels == (FLAGGED + REST) * len(CODERS)
        assert play(address, lead, passwords, truths) is None, "a second start finds it"
        of_study = f"/studies/{played.study_id}"
        pages = {page: lead.open(f"{of_study}{page}").text for page in ("", "/agreement", "/classifier", "/decisions")}
    assert all(NAME in page for page in pages.values())
    assert "Krippendorff" in pages["/agreement"]
    strata = world.sql("SELECT stratum, inclusion_probability FROM ra_items GROUP BY 1, 2 ORDER BY 1")
    assert len(strata) == 3
    assert {probability for _, probability in strata} <= {1.0, 2 / 4, 2 / 2, 2 / 3, 1 / 2}
    assert world.sql("SELECT count(*) FROM ra_decisions") == [(played.decisions,)]
    assert world.sql("SELECT count(*) FROM ra_acts WHERE act IN ('study-made', 'study-opened')") == [(2,)]
