"""A doubtful transcript says so, in words for reviewers; the queue can be had without such clips, or only with them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from flask import Flask

from app.quality import SENTENCES, sentences
from app.reviewing.lists import PAGE_SIZE
from tests.ra_app.world import Visitor, World, listed

ROOT = Path(__file__).resolve().parents[2]
BADGE = "Doubtful transcript: parts may be missing or wrong"
FEW = "There are few words for so much speech."


def counts(page: str) -> list[int]:
    """In hand, labelled, set aside."""
    return [int(number) for number in re.findall(r'class="count">(\d+)<', page)]


def reasons_of_the_pipeline() -> set[str]:
    """The keys of REASONS in the gate, read and not imported: the app runs without the pipeline."""
    tree = ast.parse((ROOT / "src/transcription/gate.py").read_text())
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id == "REASONS" and isinstance(value, ast.Dict):
            return {ast.literal_eval(key) for key in value.keys if key is not None}
    pytest.fail("src/transcription/gate.py has no table REASONS")


def test_every_reason_of_the_pipeline_has_a_sentence() -> None:
    assert reasons_of_the_pipeline() - SENTENCES.keys() == set(), "add a sentence to ra_app/app/quality.py"


def test_a_reason_is_said_once_and_an_unknown_one_is_left_out() -> None:
    assert sentences(["few-words", "new-in-the-pipeline", "few-words"]) == [FEW]


def test_the_page_of_a_doubtful_clip_says_so_and_why(mira: Visitor, world: World) -> None:
    doubtful, sure = world.add_clip(doubts=["few-words", "uncovered-speech"]), world.add_clip()
    page = " ".join(mira.hold(doubtful).hold(sure).get(f"/review/{doubtful}").text.split())
    assert f"{BADGE}</strong> {FEW} A part of the speech has no text.</p>" in page
    assert "few-words" not in page
    assert BADGE not in mira.get(f"/review/{sure}").text


def test_doubts_without_reasons_or_with_unknown_ones_are_still_said(mira: Visitor, world: World) -> None:
    clip = world.add_clip(doubts=["<b>odd</b>"])
    page = mira.hold(clip).get(f"/review/{clip}").text
    assert BADGE in page
    assert "odd" not in page


def test_the_reasons_of_other_transcripts_are_not_shown(mira: Visitor, world: World) -> None:
    clip = world.add_clip()
    world.sql("UPDATE transcripts SET reasons = '{few-words}'")
    page = mira.hold(clip).get(f"/review/{clip}").text
    assert FEW not in page


def test_a_clip_that_left_the_queue_still_says_that_it_is_doubtful(mira: Visitor, world: World) -> None:
    clip = world.add_clip(doubts=["few-words"])
    mira.label(clip, "hate")
    world.unflag(clip)
    assert FEW in mira.get(f"/review/{clip}").text
    assert "Doubtful</span>" in mira.get("/?show=done").text


def test_the_queue_marks_doubtful_clips(mira: Visitor, world: World) -> None:
    mira.hold(world.add_clip(doubts=["few-words"])).hold(world.add_clip())
    page = mira.get("/").text
    assert page.count("Doubtful</span>") == 1
    assert FEW not in page


def test_the_lists_can_be_had_without_doubtful_clips_or_only_with_them(mira: Visitor, world: World) -> None:
    labelled, doubtful, sure = world.add_clip(doubts=[]), world.add_clip(doubts=[]), world.add_clip()
    mira.label(labelled, "hate")
    mira.hold(sure).hold(doubtful)
    everything = mira.get("/").text
    assert (listed(everything), counts(everything)) == ([doubtful, sure], [2, 1, 0])
    without = mira.get("/?quality=sure").text
    assert (listed(without), counts(without)) == ([sure], [1, 0, 0])
    assert re.search(r'quality=sure" aria-current="true">\s*Without doubtful ones', without)
    only = mira.get("/?quality=doubtful").text
    assert (listed(only), counts(only)) == ([doubtful], [1, 1, 0])
    assert listed(mira.get("/?quality=doubtful&show=done").text) == [labelled]
    assert listed(mira.get("/?quality=sure&show=done").text) == []
    assert "No clips of those that you chose." in mira.get("/?quality=sure&show=done").text
    assert "<strong>1</strong> of <strong>3</strong>" in re.sub(r"\s+", " ", only), "the progress is that of all clips"


def test_the_choice_stays_until_another_is_made(mira: Visitor, world: World) -> None:
    first, second = world.add_clip(doubts=[]), world.add_clip()
    third, last = world.add_clip(doubts=[]), world.add_clip()
    mira.get("/?quality=doubtful")
    assert mira.claim() == first
    assert mira.label(first, "hate").location == f"/review/{third}"
    assert mira.label(third, "hate").location == "/"
    assert "no more clips to label of those that you chose" in mira.get("/").text
    mira.get("/?quality=all")
    assert mira.claim() == last, "forward from the last one"
    mira.label(last, "hate")
    assert mira.claim() == second


def test_the_choice_is_each_reviewers_own_and_ends_with_the_log_in(mira: Visitor, world: World, app: Flask) -> None:
    clip = world.add_clip(doubts=[])
    mira.get("/?quality=sure")
    assert mira.claim() is None
    world.add_user("jo")
    other = Visitor(app)
    other.log_in("jo")
    assert other.claim() == clip
    other.post(f"/review/{clip}/skip")
    mira.post("/logout")
    mira.log_in()
    assert mira.claim() == clip


@pytest.mark.thorough
def test_long_lists_of_chosen_clips_have_pages(mira: Visitor, world: World) -> None:
    chosen = [world.add_clip(doubts=[]) for _ in range(PAGE_SIZE + 1)]
    for clip in [*chosen, world.add_clip()]:
        mira.label(clip, "hate")
    mira.get("/?quality=doubtful")
    assert listed(mira.get("/?show=done&page=2").text) == [chosen[0]], "the newest come first"
    assert "Page 2 of 2" in mira.get("/?show=done&page=2").text


@pytest.mark.parametrize("choice", ["none", "SURE", "all,sure", "%00"])
def test_a_choice_that_does_not_exist_is_no_page(mira: Visitor, choice: str) -> None:
    assert mira.get(f"/?quality={choice}").status_code == 404
    assert mira.get("/").status_code == 200
