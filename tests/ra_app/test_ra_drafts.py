"""Nothing that a reviewer has chosen or written is lost: drafts on the server, stale tabs, and sessions that end."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from flask import Flask

from tests.ra_app.world import POLICY, Visitor, World, field


def is_checked(page: str, code: str) -> bool:
    return re.search(rf'value="{code}"[^>]*checked', page) is not None


def note_of(page: str) -> str:
    return page.partition('id="note"')[2].partition(">")[2].partition("</textarea>")[0]


def draft_at(world: World) -> int:
    milliseconds: int = world.sql("SELECT trunc(extract(epoch FROM updated_at) * 1000)::bigint FROM ra_drafts")[0][0]
    return milliseconds


def test_a_draft_is_shown_until_its_label_is_stored(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "label": ["hate", "scam"], "confidence": "2", "note": "so far"}
    answer = mira.post(f"/review/{clip}/draft", form)
    assert (answer.status_code, answer.json) == (200, {"state": "kept", "at": draft_at(world)})
    page = mira.get(f"/review/{clip}").text
    assert (is_checked(page, "hate"), is_checked(page, "scam"), is_checked(page, "2")) == (True, True, True)
    assert note_of(page) == "so far"
    assert world.sql("SELECT state FROM ra_assignments") == [("open",)]
    mira.label(clip, "unsure")
    page = mira.get(f"/review/{clip}").text
    assert (is_checked(page, "hate"), is_checked(page, "unsure"), note_of(page)) == (False, True, "")
    assert world.sql("SELECT count(*) FROM ra_drafts") == [(0,)]


def test_a_draft_may_be_what_no_label_may_be(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    long = "x" * 2500
    form = {**mira.hold(clip).form(clip), "label": ["no_violation", "hate"], "note": long}
    assert mira.post(f"/review/{clip}/draft", form).json == {"state": "kept", "at": draft_at(world)}
    assert note_of(mira.get(f"/review/{clip}").text) == long


def test_the_newer_of_draft_and_label_is_shown(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.label(clip, "hate")
    mira.post(f"/review/{clip}/draft", {**mira.form(clip), "label": "scam", "note": "a correction"})
    assert note_of(mira.get(f"/review/{clip}").text) == "a correction"
    world.sql("UPDATE ra_drafts SET updated_at = now() - interval '1 hour'")
    assert is_checked(mira.get(f"/review/{clip}").text, "hate")


def test_a_draft_of_a_stale_page_does_not_replace_what_is_stored(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    stale = {**mira.hold(clip).form(clip), "label": "scam"}
    mira.label(clip, "hate")
    assert mira.post(f"/review/{clip}/draft", stale).status_code == 409
    assert world.sql("SELECT count(*) FROM ra_drafts") == [(0,)]


def test_the_form_that_is_set_aside_with_the_clip_comes_back_with_it(mira: Visitor, world: World) -> None:
    for begun in ({"label": "hate", "note": "for later"}, {"confidence": "2"}):
        clip = world.add_clip()
        mira.post(f"/review/{clip}/skip", {**mira.hold(clip).form(clip), **begun})
        mira.post(f"/review/{clip}/take")
        page = mira.get(f"/review/{clip}").text
        kept = (is_checked(page, "hate"), is_checked(page, "2"), note_of(page))
        assert kept == ("label" in begun, "confidence" in begun, begun.get("note", ""))


def test_a_stale_tab_is_a_conflict_that_shows_both_and_overwrites_nothing(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    first = {**mira.hold(clip).form(clip), "label": "hate", "note": "of the first tab", "confidence": "3"}
    second = {**mira.form(clip), "label": "scam", "note": "of the second tab"}
    assert mira.post(f"/review/{clip}", first).status_code == 302
    answer = mira.post(f"/review/{clip}", second)
    assert answer.status_code == 409
    box = " ".join(answer.text.partition('class="conflict"')[2].partition("</div>")[0].split())
    assert "Another label for this clip was stored" in box
    assert "Hate speech, high confidence, “of the first tab”" in box
    assert (is_checked(answer.text, "scam"), note_of(answer.text)) == (True, "of the second tab")
    assert POLICY not in answer.text
    assert world.sql("SELECT labels FROM ra_labels") == [(["hate"],)]
    assert note_of(mira.get(f"/review/{clip}").text) == "of the second tab", "it is kept when the tab is closed"

    again = {**second, "base_label": field(answer, "base_label"), "submission_key": field(answer, "submission_key")}
    assert mira.post(f"/review/{clip}", again).status_code == 302
    rows = world.sql("SELECT label_id, labels, revision_of FROM ra_labels ORDER BY label_id")
    assert [row[1:] for row in rows] == [(["hate"], None), (["scam"], rows[0][0])]


def test_a_stale_correction_is_a_conflict_too(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.label(clip, "hate")
    stale = {**mira.form(clip), "label": "scam"}
    mira.label(clip, "unsure")
    assert mira.post(f"/review/{clip}", stale).status_code == 409
    assert world.sql("SELECT labels FROM ra_labels ORDER BY label_id") == [(["hate"],), (["unsure"],)]


@pytest.mark.parametrize("base", ["", "x", "-1", "0", "999999", "9" * 30])
def test_a_form_without_a_good_base_overwrites_nothing(mira: Visitor, world: World, base: str) -> None:
    clip = world.add_clip()
    mira.label(clip, "hate")
    form = {**mira.form(clip), "base_label": base, "label": "scam"}
    assert mira.post(f"/review/{clip}", form).status_code == 409
    assert world.sql("SELECT labels FROM ra_labels") == [(["hate"],)]


@pytest.mark.parametrize("base", ["999999", "1"])
def test_a_refused_form_with_any_base_is_kept_as_a_draft(mira: Visitor, world: World, base: str) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "base_label": base, "note": "no label chosen"}
    assert mira.post(f"/review/{clip}", form).status_code == 422
    assert mira.post(f"/review/{clip}/skip", form).status_code == 302
    mira.post(f"/review/{clip}/take")
    assert note_of(mira.get(f"/review/{clip}").text) == "no label chosen"


def test_a_form_that_arrives_twice_is_reported_once(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "label": "hate", "active_ms": "700", "heard": "[[0, 1]]"}
    mira.post(f"/review/{clip}", form)
    mira.post(f"/review/{clip}", form)
    assert world.sql("SELECT sum(heard_ms) FROM ra_exposures") == [(1000,)]
    assert world.sql("SELECT active_ms FROM ra_assignments") == [(700,)]


def test_a_form_that_arrives_again_after_a_correction_changes_nothing(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    first = {**mira.hold(clip).form(clip), "label": "hate"}
    mira.post(f"/review/{clip}", first)
    mira.label(clip, "unsure")
    assert mira.post(f"/review/{clip}", first).status_code == 302, "it is stored, so there is no conflict"
    assert world.sql("SELECT labels FROM ra_labels ORDER BY label_id") == [(["hate"],), (["unsure"],)]


def test_what_the_page_says_it_showed_is_believed_of_this_clip_only(mira: Visitor, world: World) -> None:
    other, clip = world.add_clip(), world.add_clip()
    foreign = world.sql("SELECT transcript_id FROM transcripts WHERE audio_id = %s", other)[0][0]
    for transcript in (str(foreign), "x", "9" * 40):
        mira.label(clip, "hate", transcript_id=transcript, classification_ids="1 2 x " + "9" * 40)
    assert world.sql("SELECT DISTINCT transcript_id, classification_ids FROM ra_labels") == [(None, [])]


@pytest.mark.parametrize(("what", "back"), [("", "/review/1"), ("/skip", "/review/1"), ("/take", "/")])
def test_after_the_session_has_ended_log_in_leads_back_to_the_clip(
    mira: Visitor, world: World, what: str, back: str
) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "label": "hate"}
    world.sql("UPDATE ra_users SET session_epoch = session_epoch + 1")
    to_log_in = mira.post(f"/review/{clip}{what}", form).location or ""
    assert to_log_in == f"/login?next={back}"
    token = field(mira.get(to_log_in), "csrf_token")
    answer = mira.post(to_log_in, {"username": "mira", "password": "correct horse battery", "csrf_token": token})
    assert answer.location == back
    assert mira.get(f"/review/{clip}").status_code == 200


@pytest.mark.parametrize("what", ["heartbeat", "draft"])
def test_the_page_is_told_that_the_session_has_ended(mira: Visitor, world: World, visitor: Visitor, what: str) -> None:
    clip = world.add_clip()
    mira.hold(clip)
    answer = visitor.client.post(f"/review/{clip}/{what}")
    assert answer.status_code == 401
    assert answer.mimetype == "text/plain"


def test_drafts_are_each_persons_own(mira: Visitor, world: World, app: Flask) -> None:
    world.study(coders_per_item=2)
    clip = world.add_clip()
    mira.post(f"/review/{clip}/draft", {**mira.hold(clip).form(clip), "note": "mira's thought"})
    world.add_user("jo")
    jo = Visitor(app)
    jo.log_in("jo")
    assert "thought" not in jo.hold(clip).get(f"/review/{clip}").text


def test_a_stranger_to_the_clip_leaves_no_draft(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {"label": "hate", "codebook_version": "3", "submission_key": str(uuid4())}
    assert mira.post(f"/review/{clip}/draft", form).status_code == 404
    assert world.sql("SELECT count(*) FROM ra_drafts") == [(0,)]
