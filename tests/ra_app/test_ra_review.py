"""Reviewing a clip: what is stored, what is refused, and that nothing stored is ever overwritten."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from flask import Flask

from app.models import NOTE_LENGTH
from tests.ra_app.world import POLICY, Visitor, World


def test_the_page_has_player_transcript_labels_and_definitions(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    page = mira.hold(clip).get(f"/review/{clip}").text
    assert f'src="/audio/{clip}"' in page
    assert "autoplay" not in page
    assert 'data-start="3.0" data-end="5.9"' in page
    assert "Listen &lt;b&gt;closely&lt;/b&gt;." in page
    for name in ("No violation", "Hate speech", "Scam or fraud", "Unsure", "Include when", "Exclude when"):
        assert name in page


@pytest.mark.parametrize(
    "segments",
    [
        [],
        [{"start": "x", "end": None, "text": 1}, "odd", {"start": 1, "end": 2}],
        [{"start": -1, "end": 2, "text": "a"}, {"start": True, "end": 2, "text": "a"}],
    ],
)
def test_a_transcript_without_usable_times_is_shown_as_text(
    mira: Visitor, world: World, segments: list[object]
) -> None:
    clip = world.add_clip(segments=segments)  # type: ignore[arg-type]
    page = mira.hold(clip).get(f"/review/{clip}").text
    assert "So listen." in page
    assert 'class="segment"' not in page


def test_a_label_is_stored_with_all_that_belongs_to_it(mira: Visitor, world: World) -> None:
    clip, after = world.add_clip(), world.add_clip()
    answer = mira.label(clip, "hate", "violent_threat", confidence="2", note=" said twice\r\nat 0:06 ")
    assert answer.location == f"/review/{after}"
    stored = world.sql(
        "SELECT a.audio_id, a.state, u.username, l.labels, l.confidence, l.note, l.codebook_id, l.codebook_version, "
        "l.blind, l.revision_of, a.submitted_at IS NOT NULL, l.created_at >= a.opened_at, l.mode, t.audio_id, "
        "l.classification_ids FROM ra_labels l JOIN ra_assignments a USING (assignment_id) "
        "JOIN ra_users u USING (user_id) JOIN transcripts t USING (transcript_id)"
    )
    note = "said twice\nat 0:06"
    codes = ["violent_threat", "hate"]  # in the order of the codebook
    what = (clip, "submitted", "mira", codes, 2, note, "spoken-clips", "3", True, None, True, True)
    assert stored == [(*what, "reveal", clip, [])]


def test_after_submitting_the_next_clip_comes_with_a_way_to_change_the_last(mira: Visitor, world: World) -> None:
    first, second = world.add_clip(), world.add_clip()
    answer = mira.client.get(mira.label(first, "hate").location, follow_redirects=True)
    assert answer.request.path == f"/review/{second}"
    assert f"Label stored for clip {first}." in answer.text
    assert f'href="/review/{first}"' in answer.text


def test_a_change_of_mind_is_a_new_row(mira: Visitor, world: World) -> None:
    clip, after = world.add_clip(), world.add_clip()
    mira.label(clip, "hate", note="first")
    page = mira.get(f"/review/{clip}").text
    assert re.search(r'value="hate"[^>]*checked', page)
    assert "Store the change" in page
    answer = mira.label(clip, "no_violation", note="second")
    assert answer.location == f"/review/{after}", "a correction goes on with the work, not to a list"
    rows = world.sql("SELECT label_id, labels, note, blind, revision_of FROM ra_labels ORDER BY label_id")
    assert [row[1:4] for row in rows] == [(["hate"], "first", True), (["no_violation"], "second", True)]
    assert [row[4] for row in rows] == [None, rows[0][0]]
    assert world.sql("SELECT count(*) FROM ra_assignments WHERE audio_id = %s", clip) == [(1,)]


def test_a_form_that_comes_twice_is_stored_once(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**mira.hold(clip).form(clip), "label": "hate"}
    first, again = mira.post(f"/review/{clip}", form), mira.post(f"/review/{clip}", form)
    assert (first.status_code, again.status_code) == (302, 302)
    assert world.sql("SELECT count(*) FROM ra_labels") == [(1,)]


@pytest.mark.usefixtures("mira")
def test_of_windows_that_submit_at_once_one_stores_and_the_others_see_it(world: World, app: Flask) -> None:
    clip = world.add_clip()
    windows = []
    for _ in range(4):
        window = Visitor(app)
        window.log_in("mira")
        windows.append(window)
    windows[0].hold(clip)
    forms = [{**window.form(clip), "label": "hate"} for window in windows]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda window, form: window.post(f"/review/{clip}", form), windows, forms))
    assert sorted(answer.status_code for answer in answers) == [302, 409, 409, 409]
    assert world.sql("SELECT revision_of FROM ra_labels") == [(None,)]


@pytest.mark.parametrize(
    ("codes", "form", "sentence"),
    [
        ([], {}, "Choose at least one label before you submit."),
        (["no_violation", "hate"], {}, "cannot be combined"),
        (["hate", "rude"], {}, "not in the codebook"),
        (["hate"], {"confidence": "9"}, "one of the three confidences"),
        (["hate"], {"note": "x" * (NOTE_LENGTH + 1)}, "Shorten it to 2000"),
        (["hate"], {"codebook_version": "0"}, "codebook has changed"),
        (["hate"], {"submission_key": "x"}, "incomplete"),
    ],
)
def test_what_cannot_be_stored_is_said_in_line_and_nothing_typed_is_lost(
    mira: Visitor, world: World, codes: list[str], form: dict[str, str], sentence: str
) -> None:
    clip = world.add_clip()
    answer = mira.label(clip, *codes, **{"note": "keep me", **form})
    assert answer.status_code == 422
    assert re.search(rf'role="alert"\s*>[^<]*{sentence}', answer.text)
    assert ("keep me" in answer.text) or "note" in form
    assert ("hate" not in codes) or re.search(r'value="hate"[^>]*checked', answer.text)
    assert world.sql("SELECT count(*) FROM ra_labels") == [(0,)]
    assert POLICY not in answer.text


def test_control_characters_are_dropped_from_notes(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.label(clip, "hate", note="a\x00b\x1bc\td\ne 😀")
    assert world.sql("SELECT note FROM ra_labels") == [("abc\td\ne 😀",)]


def test_setting_aside_needs_no_reason_and_can_be_taken_back(mira: Visitor, world: World) -> None:
    clip, after = world.add_clip(), world.add_clip()
    assert mira.hold(clip).post(f"/review/{clip}/skip").location == f"/review/{after}"
    state = f"SELECT state, user_id FROM ra_assignments WHERE audio_id = {clip}"
    assert world.sql(state) == [("skipped", 1)]
    assert world.sql("SELECT kind FROM ra_declines") == [("skip",)]
    assert mira.post(f"/review/{clip}/take").location == f"/review/{clip}"
    assert world.sql(state) == [("open", 1)]
    assert world.sql("SELECT count(*) FROM ra_declines") == [(0,)]
    mira.label(clip, "no_violation")
    assert world.sql(state) == [("submitted", 1)]


def test_a_labelled_clip_cannot_be_set_aside(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    mira.label(clip, "hate")
    assert "/skip" not in mira.get(f"/review/{clip}").text
    mira.post(f"/review/{clip}/skip")
    assert world.sql("SELECT state FROM ra_assignments") == [("submitted",)]


@pytest.mark.parametrize("method", ["get", "post", "skip"])
def test_only_clips_in_hand_can_be_reviewed(mira: Visitor, world: World, method: str) -> None:
    clip, flagged = world.add_clip(violates=False, score=0.1), world.add_clip()
    for audio_id in (clip, flagged, 999, 2**63 - 1, 2**63, 10**30):
        path = f"/review/{audio_id}" + ("/skip" if method == "skip" else "")
        form = {"label": "hate", "submission_key": str(uuid4()), "codebook_version": "3"}
        answer = mira.get(path) if method == "get" else mira.post(path, form)
        assert answer.status_code in {404, 405}
    assert world.sql("SELECT count(*) FROM ra_assignments") == [(0,)]


def test_opening_a_clip_twice_keeps_the_first_time(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    assert mira.claim() == clip
    first = world.sql("SELECT opened_at FROM ra_assignments")
    assert mira.claim() == clip
    mira.post(f"/review/{clip}/take")
    assert world.sql("SELECT opened_at FROM ra_assignments") == first
