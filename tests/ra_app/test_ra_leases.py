"""Leases: two people never hold one slot, a lapsed one is free at once, and nothing that was written on it is lost."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from app.models import db
from app.reviewing import claims
from tests.ra_app.world import Visitor, World

LAPSE = "UPDATE ra_assignments SET claimed_until = now() - interval '1 second' WHERE state = 'open'"
LEFT = "SELECT extract(epoch FROM claimed_until - now()) FROM ra_assignments WHERE audio_id = %s"


@pytest.fixture
def jo(world: World, app: Flask) -> Visitor:
    world.add_user("jo")
    browser = Visitor(app)
    browser.log_in("jo")
    return browser


def holder(world: World, clip: int) -> tuple[str, str | None]:
    query = "SELECT state, username FROM ra_assignments LEFT JOIN ra_users USING (user_id) WHERE audio_id = %s"
    found: tuple[str, str | None] = world.sql(query, clip)[0]
    return found


@pytest.mark.parametrize("coders", [1, 2])
def test_people_who_claim_at_once_never_hold_one_slot(world: World, app: Flask, coders: int) -> None:
    """Real threads, each with its own connection; every clip is given to `coders` people, and to nobody twice."""
    people, clips = 8, 60
    world.study(coders_per_item=coders)
    for _ in range(clips):
        world.add_clip()
    numbers = [world.add_user(f"user{n}") for n in range(people)]

    def work(user_id: int) -> list[int]:
        given = []
        with app.app_context():
            while (clip := claims.claim_next(user_id)) is not None:
                given.append(clip)
                submit(user_id, clip)
        return given

    def submit(user_id: int, clip: int) -> None:
        slot = claims.slot_of(user_id, clip, lock=True)
        assert slot is not None
        slot.state = "submitted"
        db.session.commit()

    with ThreadPoolExecutor(people) as pool:
        given = list(pool.map(work, numbers))
    assert all(len(set(mine)) == len(mine) for mine in given)
    assert Counter(clip for mine in given for clip in mine) == dict.fromkeys(range(1, clips + 1), coders)
    assert world.sql(
        "SELECT count(*), count(DISTINCT (audio_id, user_id)) FROM ra_assignments WHERE state = 'submitted'"
    ) == [(clips * coders, clips * coders)]


def test_a_double_click_claims_one_clip(world: World, app: Flask) -> None:
    for _ in range(5):
        world.add_clip()
    user_id = world.add_user("mira")

    def click(_: int) -> int | None:
        with app.app_context():
            return claims.claim_next(user_id)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(click, range(4))) == {1}
    assert world.sql("SELECT count(*) FROM ra_assignments WHERE state = 'open'") == [(1,)]


def test_a_held_clip_is_nobody_elses_until_the_lease_ends(mira: Visitor, jo: Visitor, world: World) -> None:
    clip = world.add_clip()
    assert mira.claim() == clip
    assert 880 < world.sql(LEFT, clip)[0][0] <= 900
    assert jo.claim() is None
    world.sql(LAPSE)
    assert jo.claim() == clip, "no job in the background is needed"
    assert holder(world, clip) == ("open", "jo")


def test_a_sign_of_life_renews_the_lease(mira: Visitor, jo: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.claim()
    world.study(lease_s=120)
    world.sql("UPDATE ra_assignments SET claimed_until = now() + interval '1 second'")
    answer = mira.post(f"/review/{clip}/heartbeat")
    assert (answer.status_code, answer.json) == (200, {"state": "held", "seconds": 120})
    assert 100 < world.sql(LEFT, clip)[0][0] <= 120
    world.sql(LAPSE)
    assert mira.post(f"/review/{clip}/heartbeat").json == {"state": "held", "seconds": 120}, "nobody has taken it"
    assert jo.claim() is None
    mira.label(clip, "hate")
    assert mira.post(f"/review/{clip}/heartbeat").json == {"state": "done"}
    assert holder(world, clip) == ("submitted", "mira")


def test_after_the_lease_a_label_is_stored_if_nobody_has_taken_the_clip(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "label": "hate"}
    world.sql(LAPSE)
    assert mira.post(f"/review/{clip}", form).status_code == 302
    assert world.sql("SELECT labels FROM ra_labels") == [(["hate"],)]


def test_a_label_for_a_clip_that_somebody_else_has_is_kept_as_a_draft(mira: Visitor, jo: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "label": "hate", "note": "my <b>words</b>", "confidence": "3"}
    world.sql(LAPSE)
    assert jo.claim() == clip
    assert mira.post(f"/review/{clip}/heartbeat").status_code == 409
    answer = mira.post(f"/review/{clip}", form)
    assert answer.status_code == 409
    for shown in ("You do not hold clip 1 any more", "Hate speech", "my &lt;b&gt;words&lt;/b&gt;", "High"):
        assert shown in answer.text
    assert world.sql("SELECT count(*) FROM ra_labels") == [(0,)]
    assert "my &lt;b&gt;" in mira.get(f"/review/{clip}").text, "also later"
    assert mira.get(f"/audio/{clip}").status_code == 404
    assert "words" not in jo.get(f"/review/{clip}").text, "a draft is one person's own"

    jo.post(f"/review/{clip}/skip")
    assert mira.post(f"/review/{clip}/take").location == f"/review/{clip}"
    assert "my &lt;b&gt;words" in mira.get(f"/review/{clip}").text
    assert mira.post(f"/review/{clip}", {**mira.form(clip), "label": "hate"}).status_code == 302
    assert world.sql("SELECT count(*) FROM ra_drafts") == [(0,)]


def test_a_label_is_stored_if_the_clip_was_given_back_meanwhile(mira: Visitor, jo: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "label": "hate"}
    world.sql(LAPSE)
    jo.claim()
    jo.post(f"/review/{clip}/skip")
    assert mira.post(f"/review/{clip}", form).status_code == 302
    assert holder(world, clip) == ("submitted", "mira")


def test_the_draft_of_a_lapsed_clip_comes_back_to_who_wrote_it(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.post(f"/review/{clip}/draft", {**mira.hold(clip).form(clip), "label": "scam", "note": "half a thought"})
    world.sql(LAPSE)
    assert mira.claim() == clip
    page = mira.get(f"/review/{clip}").text
    assert "half a thought" in page
    assert re.search(r'value="scam"[^>]*checked', page)
    assert "This is your draft from before" in page


def test_a_new_holder_begins_with_an_empty_form(mira: Visitor, jo: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.post(f"/review/{clip}/draft", {**mira.hold(clip).form(clip), "label": "scam", "note": "half a thought"})
    mira.post(f"/review/{clip}/heartbeat", {"active_ms": "5000"})
    world.sql(LAPSE)
    assert jo.claim() == clip
    page = jo.get(f"/review/{clip}").text
    assert "half a thought" not in page
    assert not re.search(r'name="(label|confidence)"[^>]*checked', page)
    assert world.sql("SELECT active_ms FROM ra_assignments") == [(0,)]


def test_what_was_heard_and_the_time_at_work_are_recorded(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.hold(clip)
    mira.post(f"/review/{clip}/heartbeat", {"active_ms": "4000", "heard": "[[0, 2.5], [2, 3]]"})
    mira.label(clip, "hate", active_ms="1000", heard="[[2.5, 4], [10, 11]]")
    assert world.sql("SELECT audio_id, heard_ms, intervals FROM ra_exposures ORDER BY 1, 2") == [
        (clip, 2500, [[2.5, 4.0], [10.0, 11.0]]),
        (clip, 3000, [[0.0, 3.0]]),
    ]
    assert world.sql("SELECT active_ms, heard_ms, heard FROM ra_labels") == [(5000, 5000, [[0.0, 4.0], [10.0, 11.0]])]


@pytest.mark.parametrize(
    "heard", ["", "x", "{}", "[1]", "[[1]]", '[["a", 2]]', "[[3, 2]]", "[[-1, 2]]", "[[0, 1e999]]", "[[true, 2]]",
              "[" * 5000, str([[0, 1]] * 600), "[[1, 1" + "0" * 400 + "]]", "[[0, Infinity]]", "[[NaN, 2]]"],
)  # fmt: skip
def test_a_malformed_report_never_keeps_a_label_from_being_stored(mira: Visitor, world: World, heard: str) -> None:
    clip = world.add_clip()
    assert mira.label(clip, "hate", heard=heard, active_ms="-5").status_code == 302
    assert world.sql("SELECT active_ms, heard_ms FROM ra_labels") == [(0, 0)]


def test_who_did_what_with_a_clip_is_recorded_in_order(mira: Visitor, world: World) -> None:
    clip = world.add_clip(audio=b"sound")
    mira.claim()
    mira.get(f"/review/{clip}")
    mira.get(f"/audio/{clip}", headers={"Range": "bytes=0-"})
    mira.get(f"/audio/{clip}", headers={"Range": "bytes=2-3"})
    mira.post(f"/review/{clip}/skip")
    mira.post(f"/review/{clip}/take")
    mira.post(f"/review/{clip}", {**mira.form(clip), "label": "hate"})
    mira.post(f"/review/{clip}/reveal")
    events = world.sql("SELECT event FROM ra_audit WHERE user_id = 1 AND audio_id = %s ORDER BY entry_id", clip)
    expected = ["claimed", "opened", "listened", "skipped", "claimed", "opened", "labelled", "revealed"]
    assert [event for (event,) in events] == expected
