"""Questions of the codebook: asked by labels, kept in drafts, checked, and stored with the label."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from app.codebooks.codebook import load_codebook, of_content
from app.config import APP_ROOT
from tests.ra_app.asking import ask
from tests.ra_app.world import Visitor, World

STORED = "SELECT labels, answers, codebook_version FROM ra_labels ORDER BY label_id"


@pytest.fixture
def asked(mira: Visitor, world: World) -> Visitor:
    """Mira, who labels by a codebook with questions: a version after the app's own."""
    mira.get("/")
    ask(world)
    return mira


def ticked(page: str) -> list[str]:
    return re.findall(r'name="answer\.\w+"\s+value="(\w+)"[^>]*\schecked', page)


def test_without_questions_the_form_has_nothing_of_them(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    page = mira.hold(clip).get(f"/review/{clip}").text
    assert 'class="question' not in page
    assert "data-single" not in page
    assert '</fieldset>\n  <fieldset class="confidence">' in page


def test_all_questions_stand_in_the_page_with_their_condition(asked: Visitor, world: World) -> None:
    clip = world.add_clip()
    page = " ".join(asked.hold(clip).get(f"/review/{clip}").text.split())
    assert '<fieldset class="question off" id="question-target"' in page
    assert "Only after Hate speech or Violent threat." in page
    assert '<fieldset class="question" id="question-where"' in page
    assert 'Where is it said? <span class="muted">optional</span>' in page


def test_answers_are_stored_with_the_label_and_shown_again(asked: Visitor, world: World) -> None:
    clip = world.add_clip()
    sent: dict[str, Any] = {"answer.target": ["women", "men"], "answer.where": "end", "answer.nothing": "x"}
    assert asked.label(clip, "hate", **sent).status_code == 302
    stored = {"target": ["women", "men"], "where": ["end"]}
    assert world.sql(STORED) == [(["hate"], stored, "4")]
    assert ticked(asked.get(f"/review/{clip}").text) == ["women", "men", "end"]
    assert "Who is attacked? Women, Men" in asked.get("/me").text
    asked.label(clip, "scam", **sent)
    assert world.sql(STORED)[1] == (["scam"], {"where": ["end"]}, "4"), "scam does not ask who is attacked"


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({}, "Answer “Who is attacked?” before you submit."),
        ({"answer.target": "dogs"}, "is not in the codebook"),
        ({"answer.target": "men", "answer.where": ["begin", "end"]}, "“Where is it said?” takes one answer"),
    ],
)
def test_answers_that_are_not_valid_are_refused_in_line_and_kept(
    asked: Visitor, world: World, answers: dict[str, Any], problem: str
) -> None:
    clip = world.add_clip()
    asked.hold(clip)
    answer = asked.label(clip, "hate", note="Mine.", **answers)
    assert answer.status_code == 422
    assert problem in html.unescape(answer.text.partition('id="problem"')[2].partition("</p>")[0])
    assert '<fieldset class="question" id="question-target"' in answer.text, "its label is chosen"
    assert world.sql("SELECT count(*) FROM ra_labels") == [(0,)]
    assert "Mine.</textarea>" in asked.get(f"/review/{clip}").text


def test_a_draft_keeps_answers_also_those_that_no_label_asks_for(asked: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**asked.hold(clip).form(clip), "answer.target": "men", "answer.where": "begin"}
    assert asked.post(f"/review/{clip}/draft", form).status_code == 200
    assert ticked(asked.get(f"/review/{clip}").text) == ["men", "begin"]
    asked.post(f"/review/{clip}/skip", {**form, "answer.where": "end"})
    asked.post(f"/review/{clip}/take")
    assert ticked(asked.get(f"/review/{clip}").text) == ["men", "end"]


def test_answers_on_a_clip_that_went_to_somebody_else_are_kept(asked: Visitor, world: World) -> None:
    clip = world.add_clip()
    form = {**asked.hold(clip).form(clip), "label": "hate", "answer.target": "men"}
    other = world.add_user("jo")
    world.sql("UPDATE ra_assignments SET user_id = %s, claimed_until = now() + interval '1 hour'", other)
    assert asked.post(f"/review/{clip}", form).status_code == 409
    assert "Who is attacked? Men" in asked.get(f"/review/{clip}").text


def test_a_codebook_of_one_label_has_radio_buttons_and_takes_one(asked: Visitor, world: World) -> None:
    ask(world, "5", choice="single")
    clip = world.add_clip()
    page = asked.hold(clip).get(f"/review/{clip}").text
    assert 'type="radio" name="label" value="hate"' in page
    assert asked.label(clip, "hate", "scam", **{"answer.target": "men"}).status_code == 422
    assert asked.label(clip, "scam").status_code == 302


def test_a_new_codebook_in_mid_study_keeps_old_labels_under_their_version(mira: Visitor, world: World) -> None:
    first, second = world.add_clip(), world.add_clip()
    mira.label(first, "hate")
    before = world.sql("SELECT * FROM ra_labels")
    opened = {**mira.hold(second).form(second), "label": "hate", "answer.target": "men"}
    ask(world)
    late = mira.post(f"/review/{second}", opened)
    assert (late.status_code, "The codebook has changed since" in late.text) == (422, True)
    assert ticked(late.text) == ["men"]
    assert mira.label(second, "hate", **{"answer.target": "men"}).status_code == 302
    assert world.sql("SELECT * FROM ra_labels ORDER BY label_id")[:1] == before
    assert [(version, answers) for _, answers, version in world.sql(STORED)] == [("3", {}), ("4", {"target": ["men"]})]
    joined = "SELECT codebook_version, content -> 'labels' -> 2 ->> 'name' FROM ra_labels JOIN ra_codebooks "
    assert world.sql(joined + "ON codebook_sha256 = sha256 ORDER BY 1") == [("3", "Hate speech"), ("4", "Hate speech")]
    assert world.sql("SELECT content FROM ra_codebooks WHERE version = '3'") == [
        (load_codebook(APP_ROOT / "codebook.toml").content(),)
    ]
    published = world.sql("SELECT content, sha256 FROM ra_codebooks WHERE version = '4'")[0]
    assert of_content(json.loads(json.dumps(published[0]))).sha256() == published[1]
