"""The review screen in a real browser: one clip after the other in place, by keyboard, and back again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ra_app.asking import ask
from tests.ra_app.browsing import (
    DOUBTS,
    SCREEN,
    TYPICAL,
    audio,
    chosen,
    log_in,
    open_clip,
    settled,
    shown,
    wait,
)
from tests.ra_app.world import POLICY, World, tone

LABELS = "SELECT a.audio_id, l.labels, l.blind FROM ra_labels l JOIN ra_assignments a USING (assignment_id) ORDER BY 1"


def test_from_the_log_in_to_the_next_clip_without_another_page(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(5), segments=TYPICAL), world.add_clip(audio=tone(4), segments=TYPICAL)
    pages: list[str] = []
    page.on("request", lambda asked: pages.append(asked.url) if asked.is_navigation_request() else None)
    log_in(page)
    page.get_by_role("button", name="Start with the first clip").click()
    shown(page, first)
    wait(page, "a.readyState >= 2")
    assert audio(page, "paused"), "no clip may start by itself"
    page.keyboard.press(" ")
    wait(page, "!a.paused && a.currentTime > 0.3")
    before = len(pages)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    shown(page, second)
    expect(page.get_by_role("status").filter(has_text="submitted")).to_have_text(f"Clip {first} submitted.")
    expect(page.get_by_role("heading", name=f"Clip {second}")).to_be_focused()
    assert page.url.endswith(f"/review/{second}")
    assert page.title().startswith(f"Clip {second} ")
    assert audio(page, "paused")
    settled(page)
    expect(page.locator("#progress")).to_contain_text("1 of 2")
    assert len(pages) == before
    assert world.sql(LABELS) == [(first, ["hate"], True)]
    page.reload()
    shown(page, second)


@pytest.mark.thorough
def test_two_clips_are_held_ahead_with_their_audio(page: Page, world: World) -> None:
    world.add_user("mira")
    clips = [world.add_clip(audio=tone(2)) for _ in range(4)]
    log_in(page)
    with page.expect_response(lambda answer: answer.url.endswith(f"/audio/{clips[2]}")):
        page.get_by_role("button", name="Start with the first clip").click()
    assert world.sql("SELECT audio_id FROM ra_assignments WHERE state = 'open' ORDER BY 1") == [
        (clip,) for clip in clips[:3]
    ]
    shown(page, clips[0])
    page.keyboard.press("0")
    with page.expect_response(lambda answer: answer.url.endswith(f"/audio/{clips[3]}")):
        page.keyboard.press("Enter")
    wait(page, "a.src.startsWith('blob:') && a.readyState >= 2")
    page.keyboard.press(" ")
    wait(page, "!a.paused && a.currentTime > 0.2")


def test_labels_by_keyboard_exclude_each_other_as_the_codebook_says(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, clip)
    for keys, expected in [("1", ["violent_threat"]), ("2", ["violent_threat", "hate"]), ("0", ["no_violation"])]:
        page.keyboard.press(keys)
        assert chosen(page) == expected
    page.keyboard.press("u")
    assert chosen(page) == ["unsure"]
    expect(page.locator(".definitions")).to_contain_text("You listened, and cannot decide")
    page.keyboard.press("u")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Choose at least one label before you submit.")
    page.keyboard.press("3")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_question_is_asked_after_its_label_and_answered_by_keyboard(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(2)), world.add_clip(audio=tone(2))
    log_in(page)
    ask(world)
    open_clip(page, world, first)
    target, where = (page.get_by_role("group", name=name) for name in ("Who is attacked?", "Where is it said?"))
    expect(target).to_be_hidden()
    expect(where).to_be_visible()
    expect(page.locator(".condition").first).to_be_hidden()
    page.keyboard.press("w")
    page.keyboard.press("2")
    expect(target).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Answer “Who is attacked?” before you submit.")
    expect(target.get_by_label("Women")).to_be_focused()
    page.keyboard.press(" ")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.keyboard.press("w")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.reload()  # the draft has it all
    shown(page, first)
    page.keyboard.press("Enter")
    shown(page, second)
    settled(page)
    assert world.sql("SELECT labels, answers FROM ra_labels") == [
        (["hate"], {"target": ["women", "men"], "where": ["end"]})
    ]
    page.keyboard.press("z")
    shown(page, first)
    expect(target.get_by_role("checkbox", name="Men", exact=True)).to_be_checked()
    page.keyboard.press("2")
    expect(target).to_be_hidden()
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    shown(page, second)
    settled(page)
    assert world.sql("SELECT labels, answers FROM ra_labels")[1] == (["scam"], {"where": ["end"]})
    ask(world, "5", choice="single")
    page.reload()
    shown(page, second)
    for key, expected in [("1", ["violent_threat"]), ("2", ["hate"]), ("2", [])]:
        page.keyboard.press(key)
        assert chosen(page) == expected


def test_keys_leave_the_note_alone_can_be_changed_and_switched_off(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, clip)
    page.keyboard.press("n")
    page.keyboard.type("0 n s? 12")
    expect(page.get_by_label(re.compile("^Note"))).to_have_value("0 n s? 12")
    assert chosen(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_role("button", name="change the key for: play the clip again and again").click()
    for key, said in [("1", "is the key of a label"), ("j", "is taken: next sentence"), ("q", "is the key now for")]:
        page.keyboard.press(key)
        expect(page.locator("#keys-said")).to_contain_text(said)
    page.keyboard.press("Escape")
    page.keyboard.press("q")
    wait(page, "a.loop")
    page.reload()
    shown(page, clip)
    expect(page.get_by_role("button", name="Loop")).to_contain_text("q")
    page.keyboard.press("?")
    page.get_by_role("checkbox", name=re.compile("single keys")).uncheck()
    page.get_by_role("button", name="Close", exact=True).click()
    page.keyboard.press("1")
    page.reload()
    shown(page, clip)
    page.keyboard.press("1")
    assert chosen(page) == []


def test_the_key_of_a_label_that_stands_alone_may_submit_at_once(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(2)), world.add_clip(audio=tone(2))
    log_in(page)
    open_clip(page, world, first)
    page.keyboard.press("?")
    page.get_by_role("checkbox", name=re.compile("submits at once")).check()
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    shown(page, second)
    page.keyboard.press("2")
    assert chosen(page) == ["hate"]
    settled(page)
    assert world.sql(LABELS) == [(first, ["no_violation"], True)]


@pytest.mark.thorough
def test_after_a_click_by_mouse_the_keys_still_play_and_submit(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(20), segments=TYPICAL), world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, first)
    page.get_by_role("button", name="Show the text").click()
    page.get_by_role("button", name="Sentence number 5").click()
    page.locator(".choice", has_text="Hate speech").click()
    page.get_by_role("slider").click()  # in its middle
    wait(page, "document.activeElement === document.body && a.currentTime > 9 && a.currentTime < 11")
    page.keyboard.press(" ")
    wait(page, "!a.paused")
    page.get_by_role("button", name="Pause").click()
    wait(page, "a.paused")
    assert chosen(page) == ["hate"]
    page.keyboard.press("Enter")
    shown(page, second)


def test_set_aside_and_pass_can_be_undone(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second, third = (world.add_clip(audio=tone(2)) for _ in range(3))
    log_in(page)
    open_clip(page, world, first)
    page.keyboard.press("2")
    page.keyboard.press("s")
    shown(page, second)
    settled(page)
    page.keyboard.press("z")
    shown(page, first)
    assert chosen(page) == ["hate"], "what was chosen before is kept as a draft"
    page.keyboard.press("p")
    shown(page, second)
    settled(page)
    assert world.sql("SELECT kind FROM ra_declines") == [("pass",)]
    assert world.sql("SELECT state FROM ra_assignments WHERE audio_id = %s", first) == [("free",)]
    page.get_by_role("button", name="Undo").click()
    shown(page, first)
    page.keyboard.press("Enter")
    shown(page, second)
    settled(page)
    assert world.sql(LABELS) == [(first, ["hate"], True)]
    assert world.sql("SELECT count(*) FROM ra_declines") == [(0,)]
    page.keyboard.press("p")
    shown(page, third)


def test_undo_changes_a_label_and_goes_on_where_one_was(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second, third = (world.add_clip(audio=tone(2)) for _ in range(3))
    log_in(page)
    open_clip(page, world, first)
    for clip in (second, third):
        page.keyboard.press("0")
        page.keyboard.press("Enter")
        shown(page, clip)
    page.keyboard.press("n")
    page.keyboard.type("half a thought")
    page.keyboard.press("Escape")
    page.keyboard.press("z")
    shown(page, second)
    page.keyboard.press("z")
    shown(page, first)
    assert chosen(page) == ["no_violation"]
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    shown(page, third)
    expect(page.get_by_label(re.compile("^Note"))).to_have_value("half a thought")
    settled(page)
    changed = "SELECT labels, revision_of IS NOT NULL, blind FROM ra_labels ORDER BY label_id"
    assert world.sql(changed) == [
        (["no_violation"], False, True),
        (["no_violation"], False, True),
        (["scam"], True, True),
    ]
    page.reload()  # what an undo reaches comes from the server then
    shown(page, third)
    page.keyboard.press("z")
    shown(page, second)
    page.get_by_role("button", name="Leave it as it is").click()
    shown(page, third)
    assert world.sql("SELECT count(*) FROM ra_labels") == [(3,)]


def test_at_the_end_the_screen_says_so_and_finds_what_arrives(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(2))
    log_in(page)
    open_clip(page, world, clip)
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="You have no more clips to label")).to_be_focused()
    late = world.add_clip(audio=tone(2))
    page.get_by_role("button", name="Look for new clips").click()
    shown(page, late)


def test_verdicts_are_not_in_the_page_before_the_label_and_are_when_asked_for(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(2))
    log_in(page)
    open_clip(page, world, clip)
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="You have no more clips").wait_for()
    page.keyboard.press("z")
    shown(page, clip)
    page.go_back()
    page.go_forward()
    page.get_by_role("button", name="Show what the model said").wait_for()
    assert POLICY not in page.content(), "neither Back nor coming again reveals anything"
    shown(page, clip)
    page.get_by_role("button", name="Show what the model said").click()
    expect(page.get_by_text(POLICY)).to_be_visible()
    assert (
        page.evaluate("document.querySelector('.listen').scrollHeight - document.querySelector('.listen').clientHeight")
        <= 0
    )


@pytest.mark.parametrize("labelled", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_a_typical_clip_fits_on_the_screen(page: Page, world: World, labelled: bool) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3), segments=TYPICAL, doubts=DOUBTS)
    log_in(page)
    open_clip(page, world, clip)
    if labelled:
        page.keyboard.press("0")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="You have no more clips").wait_for()
        page.keyboard.press("z")
        page.get_by_role("button", name="Show what the model said").click()
        page.locator(".verdicts").wait_for()
    for area in ("document.documentElement", "document.querySelector('.panel')", "document.querySelector('.listen')"):
        assert page.evaluate(f"{area}.scrollHeight - {area}.clientHeight") <= 0, area
    expect(page.get_by_role("button", name=re.compile("Submit|Store"))).to_be_in_viewport()


def test_without_its_script_the_page_says_so_and_takes_a_label(browser: Browser, address: str, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(2)), world.add_clip(audio=tone(2))
    context = browser.new_context(viewport=SCREEN, base_url=address)
    page = context.new_page()
    page.route("**/scripts/review.js*", lambda route: route.abort())
    log_in(page)
    page.get_by_role("button", name="Start with the first clip").click()
    expect(page.get_by_text("The script of this page has not been loaded")).to_be_visible(timeout=30_000)
    page.get_by_role("checkbox", name="Hate speech").check()
    page.get_by_role("button", name=re.compile("^Submit")).click()
    page.wait_for_url(f"**/review/{second}")
    assert world.sql(LABELS) == [(first, ["hate"], True)]
    context.close()
