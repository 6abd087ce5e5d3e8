"""The queue page: progress, lists, paging, and the way to the next clip."""

from __future__ import annotations

import re

import pytest

from app.clips import PAGE_SIZE
from tests.ra_app.world import Visitor, World


def _listed(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'class="act"><a href="/review/(\d+)"', page)]


def test_an_empty_queue_says_so(mira: Visitor) -> None:
    page = mira.get("/").text
    assert "No clips have arrived yet." in page
    assert "0</strong> of <strong>0" in page


def test_flagged_clips_are_listed_and_others_are_not(mira: Visitor, world: World) -> None:
    flagged = world.add_clip(filename="día de mercado.mp3")
    world.add_clip(violates=False, score=0.1)
    page = mira.get("/").text
    assert _listed(page) == [flagged]
    for shown in ("día de mercado.mp3", "20261120-103000-a1b2c3", "0:30", "2026-11-20"):
        assert shown in page


def test_progress_counts_what_this_user_labelled(mira: Visitor, world: World) -> None:
    first, second, _ = (world.add_clip() for _ in range(3))
    mira.label(first, "hate")
    mira.post(f"/review/{second}/skip")
    page = mira.get("/").text
    assert "<strong>1</strong> of <strong>3</strong>" in re.sub(r"\s+", " ", page)
    assert "1 set aside" in page


def test_each_user_has_a_queue_of_their_own(mira: Visitor, world: World, visitor: Visitor) -> None:
    clip = world.add_clip()
    mira.label(clip, "hate")
    world.add_user("jo")
    visitor.log_in("jo")
    assert _listed(visitor.get("/").text) == [clip]
    assert _listed(mira.get("/").text) == []


def test_labelled_and_skipped_clips_have_lists_with_a_way_back(mira: Visitor, world: World) -> None:
    first, second = world.add_clip(), world.add_clip()
    mira.label(first, "hate")
    mira.post(f"/review/{second}/skip")
    done = mira.get("/?show=done").text
    assert _listed(done) == [first]
    assert "Edit" in done
    assert _listed(mira.get("/?show=skipped").text) == [second]


def test_a_labelled_clip_that_left_the_queue_is_still_listed(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.label(clip, "hate")
    transcript = world.sql("SELECT transcript_id FROM transcripts")[0][0]
    world.classify(clip, transcript, violates=False, score=0.1, version="2.0.0")
    assert _listed(mira.get("/?show=done").text) == [clip]
    assert mira.get(f"/review/{clip}").status_code == 200


def test_long_queues_have_pages(mira: Visitor, world: World) -> None:
    clips = [world.add_clip() for _ in range(PAGE_SIZE + 3)]
    assert _listed(mira.get("/").text) == clips[:PAGE_SIZE]
    assert _listed(mira.get("/?page=2").text) == clips[PAGE_SIZE:]
    assert "Page 2 of 2" in mira.get("/?page=2").text
    assert mira.get("/?page=9").location == "/?show=todo&page=2"


@pytest.mark.parametrize("query", ["show=all", "page=0", "page=-1", "page=99999999999999999999"])
def test_nonsense_in_the_address_is_no_page(mira: Visitor, query: str) -> None:
    assert mira.get(f"/?{query}").status_code == 404


def test_next_goes_forward_and_then_back_to_what_was_left(mira: Visitor, world: World) -> None:
    first, second, third = (world.add_clip() for _ in range(3))
    assert mira.get("/next").location == f"/review/{first}"
    assert mira.get(f"/next?after={second}").location == f"/review/{third}"
    assert mira.get(f"/next?after={third}").location == f"/review/{first}"


def test_next_passes_over_what_is_labelled_or_set_aside(mira: Visitor, world: World) -> None:
    first, second, third = (world.add_clip() for _ in range(3))
    mira.label(first, "hate")
    mira.post(f"/review/{second}/skip")
    assert mira.get("/next").location == f"/review/{third}"


@pytest.mark.parametrize("after", ["-5", "x", "99999999999999999999999"])
def test_next_shrugs_at_nonsense(mira: Visitor, world: World, after: str) -> None:
    clip = world.add_clip()
    assert mira.get(f"/next?after={after}").location == f"/review/{clip}"


def test_when_nothing_is_left_next_says_thank_you(mira: Visitor, world: World) -> None:
    mira.label(world.add_clip(), "hate")
    answer = mira.get("/next")
    assert answer.location == "/"
    assert "no more clips to label" in mira.get("/").text
