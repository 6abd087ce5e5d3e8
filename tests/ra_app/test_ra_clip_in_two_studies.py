"""The same clip in several studies: who is asked again, what counts as blind, and who takes part."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.ra_app.campaign import add_items, add_study
from tests.ra_app.world import POLICY, Visitor, World


@pytest.fixture
def clip(world: World) -> int:
    """A clip that nobody flagged: the study “Flagged clips” does not have it."""
    return world.add_clip(violates=False)


def study(world: World, name: str, *clips: int, **columns: Any) -> int:
    """An open study with these clips and two coders for each."""
    number = add_study(world, name, coders_per_item=2, **columns)
    add_items(world, number, clips, coders=2)
    return number


def labels(world: World) -> list[tuple[Any, ...]]:
    return world.sql(
        "SELECT name, l.labels, l.blind FROM ra_labels l JOIN ra_assignments USING (assignment_id) "
        "JOIN ra_studies USING (study_id) ORDER BY label_id"
    )


def test_who_labelled_a_clip_is_asked_anew_in_another_study(mira: Visitor, world: World, clip: int) -> None:
    study(world, "first", clip)
    assert mira.claim() == clip
    mira.label(clip, "hate", note="as I heard it", heard="[[0, 3]]")
    assert mira.claim() is None, "once in a study"
    study(world, "second", clip)
    assert mira.claim() == clip
    page = mira.get(f"/review/{clip}").text
    assert "as I heard it" not in page
    assert not re.search(r'name="(label|confidence)"[^>]*checked', page)
    mira.label(clip, "unsure")
    assert labels(world) == [("first", ["hate"], True), ("second", ["unsure"], True)]
    first = re.findall(r'href="/review/\d+\?slot=\d+', mira.get("/?show=done").text)[1].removeprefix('href="')
    assert "as I heard it" in mira.get(first).text
    assert world.sql("SELECT heard FROM ra_labels ORDER BY label_id") == [([[0.0, 3.0]],), ([],)]


def test_nobody_holds_a_clip_in_two_studies_at_a_time(mira: Visitor, world: World, clip: int) -> None:
    study(world, "first", clip)
    study(world, "second", clip)
    assert [mira.claim(), mira.claim()] == [clip, clip]
    assert world.sql("SELECT count(*) FROM ra_assignments WHERE state = 'open'") == [(1,)]
    assert mira.post("/desk/ahead", {"have": clip, "want": 1}).json["items"] == []  # type: ignore[index]


def test_a_form_goes_to_the_study_whose_page_sent_it(mira: Visitor, world: World, clip: int, visitor: Visitor) -> None:
    """The slot lapsed and is somebody else's by now. The label in the other study stays as it is."""
    study(world, "first", clip)
    mira.label(mira.claim() or 0, "hate")
    world.sql("UPDATE ra_studies SET coders_per_item = 1")
    study(world, "second", clip)
    world.sql("UPDATE ra_studies SET coders_per_item = 1")
    form = {**mira.form(mira.claim() or 0), "label": "scam"}
    world.sql("UPDATE ra_assignments SET claimed_until = now() - interval '1 s' WHERE state = 'open'")
    world.add_user("jo")
    visitor.log_in("jo")
    world.sql("UPDATE ra_studies SET state = 'paused' WHERE name = 'first'")
    assert visitor.claim() == clip
    assert mira.post(f"/review/{clip}", form).status_code == 409
    assert labels(world) == [("first", ["hate"], True)]
    assert world.sql("SELECT content->'labels' FROM ra_drafts") == [(["scam"],)]
    visitor.post(f"/review/{clip}/pass", visitor.form(clip))
    assert mira.post(f"/review/{clip}", form).status_code == 302, "it was given back meanwhile"
    assert labels(world) == [("first", ["hate"], True), ("second", ["scam"], True)]


@pytest.mark.parametrize("mode", ["reveal", "assisted"])
def test_who_saw_the_verdicts_in_one_study_labels_blind_in_none(
    mira: Visitor, world: World, clip: int, mode: str
) -> None:
    study(world, "first", clip, mode=mode)
    mira.claim()
    if mode == "reveal":
        mira.label(clip, "hate")
        mira.post(f"/review/{clip}/reveal")
        stored = [("first", ["hate"], True)]
    else:  # seen, and not labelled
        assert POLICY in mira.get(f"/review/{clip}").text
        mira.post(f"/review/{clip}/pass", mira.form(clip))
        stored = []
    study(world, "second", clip, mode="blind")
    assert mira.claim() == clip
    assert POLICY not in mira.get(f"/review/{clip}").text
    mira.label(clip, "scam")
    assert labels(world) == [*stored, ("second", ["scam"], False)]


def test_a_lead_who_has_opened_the_history_of_a_clip_does_not_label_it_blind(
    world: World, clip: int, visitor: Visitor
) -> None:
    world.add_user("lea", role="lead")
    visitor.log_in("lea")
    assert POLICY in visitor.get(f"/clips/{clip}").text
    study(world, "first", clip)
    visitor.claim()
    visitor.label(clip, "hate")
    assert labels(world) == [("first", ["hate"], False)]


def test_only_members_are_offered_the_clips_of_a_study_that_is_not_for_everybody(
    mira: Visitor, world: World, clip: int, visitor: Visitor
) -> None:
    number = study(world, "first", clip, everybody=False)
    assert "<strong>0</strong> of <strong>0</strong>" in mira.get("/").text
    assert mira.claim() is None
    assert mira.post("/desk/ahead", {"want": 2}).json["items"] == []  # type: ignore[index]
    world.add_user("lea", role="lead")
    visitor.log_in("lea")
    visitor.post(f"/review/{clip}/take")
    assert world.sql("SELECT DISTINCT state FROM ra_assignments") == [("free",)], "nor may a lead take it"
    world.sql("INSERT INTO ra_study_members (study_id, user_id) SELECT %s, user_id FROM ra_users", number)
    assert mira.claim() == clip
    world.sql("DELETE FROM ra_study_members")
    assert mira.claim() == clip, "what somebody holds they may finish"
    assert mira.label(clip, "hate").status_code == 302


def test_a_study_of_some_policies_takes_up_what_these_have_flagged(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    world.study(policies=["other-policy"])
    assert mira.claim() is None
    world.study(policies=["other-policy", POLICY])
    assert mira.claim() == clip
