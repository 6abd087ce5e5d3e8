"""The queue page: progress, lists, paging, and the way to the next clip."""

from __future__ import annotations

import re

import pytest

from app.reviewing.lists import PAGE_SIZE
from tests.ra_app.world import Visitor, World, listed


def progress(page: str) -> str:
    text = re.sub(r"<[^>]+>", "", page.partition('id="progress-text">')[2].partition("</p>")[0])
    return " ".join(text.split())


def test_an_empty_queue_says_so(mira: Visitor) -> None:
    page = mira.get("/").text
    assert "No clips have arrived yet." in page
    assert progress(page) == "0 of 0 clips labelled"


def test_only_clips_in_hand_are_listed(mira: Visitor, world: World) -> None:
    flagged = world.add_clip()
    world.add_clip()
    world.add_clip(violates=False, score=0.1)
    assert listed(mira.get("/").text) == []
    assert mira.claim() == flagged
    page = mira.get("/").text
    assert listed(page) == [flagged]
    for shown in ("0:30", "2026-11-20", "Go on"):
        assert shown in page


def test_progress_counts_what_this_user_labelled(mira: Visitor, world: World) -> None:
    for _ in range(4):
        world.add_clip()
    assert progress(mira.get("/").text) == "0 of 4 clips labelled", "clips that just arrived count"
    first = mira.claim()
    assert first is not None
    mira.label(first, "hate")
    mira.post(f"/review/{mira.claim()}/skip")
    assert progress(mira.get("/").text) == "1 of 4 clips labelled, 1 set aside"


def test_what_one_reviewer_has_is_not_offered_to_another(mira: Visitor, world: World, visitor: Visitor) -> None:
    first, second = world.add_clip(), world.add_clip()
    world.add_user("jo")
    visitor.log_in("jo")
    assert mira.claim() == first
    assert visitor.claim() == second
    mira.label(first, "hate")
    assert mira.claim() is None
    assert listed(mira.get("/").text) == []
    assert listed(visitor.get("/").text) == [second]


def test_with_two_coders_each_reviewer_gets_every_clip(mira: Visitor, world: World, visitor: Visitor) -> None:
    world.study(coders_per_item=2)
    clip = world.add_clip()
    world.add_user("jo")
    visitor.log_in("jo")
    assert mira.claim() == clip
    mira.label(clip, "hate")
    assert mira.claim() is None, "nobody codes a clip twice"
    assert visitor.claim() == clip
    assert world.sql("SELECT coder_number, user_id FROM ra_assignments ORDER BY 1") == [(1, 1), (2, 2)]


def test_a_clip_for_two_coders_counts_once_in_progress(mira: Visitor, world: World) -> None:
    world.study(coders_per_item=2)
    for _ in range(3):
        world.add_clip()
    assert progress(mira.get("/").text) == "0 of 3 clips labelled"
    mira.label(2, "hate")
    assert progress(mira.get("/").text) == "1 of 3 clips labelled", "one in hand, and one before it"


def test_labelled_and_skipped_clips_have_lists_with_a_way_back(mira: Visitor, world: World) -> None:
    first, second = world.add_clip(), world.add_clip()
    mira.label(first, "hate")
    mira.post(f"/review/{second}/skip")
    done = mira.get("/?show=done").text
    assert listed(done) == [first]
    assert "Edit" in done
    aside = mira.get("/?show=skipped").text
    assert f'action="/review/{second}/take"' in aside
    assert mira.post(f"/review/{second}/take").location == f"/review/{second}"
    assert f'action="/review/{second}/take"' not in mira.get("/?show=skipped").text


def test_others_may_take_what_is_set_aside_when_nothing_else_is_left(
    mira: Visitor, world: World, visitor: Visitor
) -> None:
    first, second = world.add_clip(), world.add_clip()
    mira.claim()
    mira.post(f"/review/{first}/skip")
    world.add_user("jo")
    visitor.log_in("jo")
    assert world.sql("SELECT state FROM ra_assignments WHERE audio_id = %s", first) == [("skipped",)]
    assert mira.claim() == second
    assert visitor.claim() == first
    assert f"/review/{first}/take" not in mira.get("/?show=skipped").text
    answer = mira.post(f"/review/{first}/take")
    assert answer.location == "/?show=skipped"
    assert f"Clip {first} cannot be had: somebody else" in mira.get("/").text
    assert world.sql("SELECT user_id, kind FROM ra_declines") == [(1, "skip")], "it is still known who set it aside"
    visitor.post(f"/review/{first}/skip")
    assert mira.post(f"/review/{first}/take").location == f"/review/{first}"


def test_a_clip_that_a_reviewer_passed_is_never_offered_to_them(mira: Visitor, world: World, visitor: Visitor) -> None:
    clip = world.add_clip()
    assert mira.claim() == clip
    world.sql("UPDATE ra_assignments SET state = 'free', user_id = NULL")
    world.sql("INSERT INTO ra_declines (item_id, user_id, kind) SELECT item_id, 1, 'pass' FROM ra_items")
    assert mira.claim() is None
    assert progress(mira.get("/").text).startswith("0")
    world.add_user("jo")
    visitor.log_in("jo")
    assert visitor.claim() == clip


def test_a_labelled_clip_that_left_the_queue_is_still_listed(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.label(clip, "hate")
    world.unflag(clip)
    assert listed(mira.get("/?show=done").text) == [clip]
    assert mira.get(f"/review/{clip}").status_code == 200


def test_long_lists_have_pages(mira: Visitor, world: World) -> None:
    for _ in range(PAGE_SIZE + 3):
        mira.label(world.add_clip(), "hate")
    world.sql("UPDATE ra_assignments SET submitted_at = now() - make_interval(secs => audio_id)")
    clips = list(range(1, PAGE_SIZE + 4))
    assert listed(mira.get("/?show=done").text) == clips[:PAGE_SIZE]
    assert listed(mira.get("/?show=done&page=2").text) == clips[PAGE_SIZE:]
    assert "Page 2 of 2" in mira.get("/?show=done&page=2").text
    assert mira.get("/?show=done&page=9").location == "/?show=done&page=2"


@pytest.mark.parametrize("query", ["show=all", "page=0", "page=-1", "page=99999999999999999999"])
def test_nonsense_in_the_address_is_no_page(mira: Visitor, query: str) -> None:
    assert mira.get(f"/?{query}").status_code == 404


def test_next_goes_forward_and_then_back_to_what_was_left(mira: Visitor, world: World) -> None:
    first, second, third = (world.add_clip() for _ in range(3))
    mira.label(second, "hate")
    assert mira.claim() == third
    mira.label(third, "hate")
    assert mira.claim() == first


def test_next_leads_back_to_the_clip_in_hand(mira: Visitor, world: World) -> None:
    first, second = world.add_clip(), world.add_clip()
    assert [mira.claim(), mira.claim()] == [first, first]
    mira.label(first, "hate")
    assert mira.claim() == second
    mira.label(first, "unsure")
    assert mira.claim() == second, "a correction leads back to where it was begun"


def test_a_link_to_next_leads_to_the_queue_and_claims_nothing(mira: Visitor, world: World) -> None:
    world.add_clip()
    assert mira.get("/next").location == "/"
    assert world.sql("SELECT count(*) FROM ra_assignments") == [(0,)]


def test_when_nothing_is_left_next_says_thank_you(mira: Visitor, world: World) -> None:
    mira.label(world.add_clip(), "hate")
    assert mira.post("/next").location == "/"
    assert "no more clips to label" in mira.get("/").text


@pytest.mark.parametrize("state", ["paused", "closed"])
def test_a_study_that_is_not_open_gives_out_no_clips(mira: Visitor, world: World, state: str) -> None:
    clip = world.add_clip()
    world.study(state=state)
    assert mira.claim() is None
    world.study(state="open")
    assert mira.claim() == clip


def test_a_paused_study_takes_labels_of_clips_in_hand_and_a_closed_one_none(mira: Visitor, world: World) -> None:
    first, second = world.add_clip(), world.add_clip()
    mira.hold(first).hold(second)
    world.study(state="paused")
    assert mira.label(first, "hate").status_code == 302
    world.study(state="closed")
    answer = mira.label(second, "hate", note="still here")
    assert answer.status_code == 409
    assert "This study is closed" in answer.text
    assert "still here" in mira.get(f"/review/{second}").text
    assert world.sql("SELECT count(*) FROM ra_labels") == [(1,)]
