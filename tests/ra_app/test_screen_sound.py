"""How the review screen plays a clip: loudness, the waveform, marked parts, the cover, and breaks."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.ra_app.browsing import TYPICAL, audio, log_in, open_clip, settled, shown, wait
from tests.ra_app.world import World, hold, tone

# Points of the waveform's canvas that are not empty.
PAINTED = """() => {
  const c = document.querySelector(".wave canvas");
  return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.filter((v, n) => n % 4 === 3 && v).length;
}"""
COVERED = "getComputedStyle(document.querySelector('.said')).visibility === 'hidden'"


@pytest.fixture
def clip(page: Page, world: World) -> int:
    """A clip of twenty seconds with sentences, and a second one behind it; the first is open."""
    world.add_user("mira")
    first = world.add_clip(audio=tone(20), segments=TYPICAL)
    world.add_clip(audio=tone(2))
    world.sql("UPDATE audio_files SET peaks = %s, loudness_lufs = -10, peak_dbfs = -0.5", bytes(range(200)))
    log_in(page)
    open_clip(page, world, first)
    return first


@pytest.mark.usefixtures("clip")
def test_a_loud_clip_is_turned_down_before_it_sounds(page: Page) -> None:
    """-10 LUFS and a peak of -0.5 dB: 13 dB down to -23 LUFS, which is more than the cap of -12 dB asks for."""
    assert audio(page, "paused")
    assert audio(page, "volume") == pytest.approx(10 ** (-13 / 20), abs=0.001)


@pytest.mark.usefixtures("clip")
def test_the_waveform_is_a_slider_and_a_click_on_it_seeks(page: Page) -> None:
    slider = page.get_by_role("slider", name="Position in the clip")
    expect(slider).to_have_attribute("aria-valuetext", "0:00 of 0:20")
    slider.focus()
    for key, at in [("ArrowRight", 1), ("PageUp", 11), ("ArrowLeft", 10), ("Home", 0), ("End", 20)]:
        page.keyboard.press(key)
        wait(page, f"Math.abs(a.currentTime - {at}) < 0.2")
    expect(slider).to_have_attribute("aria-valuetext", "0:20 of 0:20")
    slider.click()
    wait(page, "Math.abs(a.currentTime - 10) < 0.5")
    drawn = (
        "[...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((v, n) => n % 4 === 3 && v).length"
    )
    assert page.evaluate(f"() => {{ const c = document.querySelector('.wave canvas'); return {drawn}; }}") > 1000


@pytest.mark.usefixtures("clip")
def test_parts_are_marked_by_key_and_by_mouse_and_stored(page: Page, world: World) -> None:
    page.keyboard.press("t")
    page.get_by_role("button", name="Sentence number 2").click()
    wait(page, "a.currentTime >= 6")
    page.keyboard.press("m")
    box = page.get_by_role("slider").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 30, steps=4)
    page.mouse.up()
    wait(page, "document.activeElement === document.body")
    page.keyboard.press("[")
    page.keyboard.press("ArrowRight")
    wait(page, "a.currentTime >= 9")
    page.keyboard.press("]")
    expect(page.get_by_role("list", name="Marked parts").get_by_role("button")).to_have_count(3)
    page.get_by_role("button", name="Remove the marked part from 0:06 to 0:09").click()
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    settled(page)
    [(spans,)] = world.sql("SELECT spans FROM ra_labels")
    assert [[round(edge) for edge in span] for span in spans] == [[6, 9], [10, 15]]


@pytest.mark.usefixtures("clip")
def test_speed_loop_steps_and_backing_up_after_a_pause(page: Page) -> None:
    for key in (".", ".", ",", "l"):
        page.keyboard.press(key)
    assert audio(page, "playbackRate") == pytest.approx(1.25)
    assert audio(page, "loop")
    for key, at in [("j", 3), ("j", 6), ("k", 3), ("ArrowRight", 6), ("ArrowLeft", 3)]:
        page.keyboard.press(key)
        wait(page, f"Math.abs(a.currentTime - {at}) < 0.1")
    page.keyboard.press(" ")
    wait(page, "a.currentTime > 5")
    page.keyboard.press(" ")
    stopped = audio(page, "currentTime")
    page.keyboard.press(" ")
    wait(page, "!a.paused")
    assert audio(page, "currentTime") < stopped - 1
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    wait(page, "a.playbackRate === 1.25 && a.paused")


def test_the_sentence_and_the_word_that_play_are_lit(page: Page, world: World, clip: int) -> None:
    words = [
        {"start": 0.5 * n, "end": 0.5 * n + 0.4, "word": word}
        for n, word in enumerate(["So", "listen", "very", "closely"])
    ]
    segments = [{"start": 0.0, "end": 5.0, "text": " So listen, very closely."}]
    world.sql("UPDATE transcripts SET segments = %s, words = %s", json.dumps(segments), json.dumps(words))
    page.reload()
    shown(page, clip)
    wait(page, "a.readyState >= 1")
    page.keyboard.press("t")
    expect(page.locator(".segment")).to_have_text(re.compile("So listen, very closely\\.$"))
    page.get_by_role("slider").press("ArrowRight")
    expect(page.locator(".word[aria-current]")).to_have_text("very")
    expect(page.locator(".segment[aria-current]")).to_have_count(1)


@pytest.mark.usefixtures("clip")
def test_seeking_far_ahead_asks_for_that_part_only(page: Page, world: World) -> None:
    long = world.add_clip(audio=tone(900), segments=[{"start": 880.0, "end": 890.0, "text": "Near the end."}])
    open_clip(page, world, long)
    page.keyboard.press("t")
    with page.expect_response(lambda answer: "/audio/" in answer.url and answer.status == 206) as part:
        page.get_by_role("button", name="Near the end.").click()
    wait(page, "!a.seeking && a.currentTime >= 879 && a.readyState >= 2")
    assert not part.value.headers["content-range"].startswith("bytes 0-")


@pytest.mark.thorough
@pytest.mark.usefixtures("clip")
def test_a_clip_that_cannot_be_played_says_so(page: Page, world: World) -> None:
    broken = world.add_clip(audio=b"this is no audio")
    world.sql("UPDATE ra_assignments SET state = 'skipped' WHERE state = 'open'")
    hold(world.app, "mira", broken)
    page.goto(f"/review/{broken}")
    expect(page.locator("#audio-problem")).to_be_visible()


def test_the_text_is_covered_until_asked_for_and_escape_hides_it_and_pauses(
    page: Page, world: World, clip: int
) -> None:
    assert page.evaluate(COVERED)
    page.keyboard.press("t")
    assert not page.evaluate(COVERED)
    page.keyboard.press(" ")
    wait(page, "!a.paused")
    page.keyboard.press("Escape")
    assert page.evaluate(COVERED)
    assert audio(page, "paused")
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    shown(page, clip + 1)
    assert page.evaluate(COVERED), "each clip's text is asked for anew"
    settled(page)
    assert world.sql("SELECT event, audio_id FROM ra_wellbeing ORDER BY 1") == [("hidden", clip), ("veil-lifted", clip)]


def test_a_break_is_proposed_and_taken(page: Page, world: World, clip: int) -> None:
    [(pseudonym,)] = world.sql("SELECT pseudonym FROM ra_users")
    worked = "JSON.stringify({ms: 44.99 * 60000, at: Date.now()})"
    page.add_init_script(f"localStorage.setItem('worked:{pseudonym}', {worked})")
    page.reload()
    shown(page, clip)
    page.keyboard.press("t")
    page.mouse.move(300, 300)
    page.get_by_role("button", name="Take a break").click(timeout=30_000)
    expect(page.get_by_role("dialog", name="A break")).to_contain_text("talk to your lead")
    assert page.evaluate(COVERED)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#break-in")).to_have_text("break in 45 min")
    assert world.sql("SELECT event FROM ra_wellbeing WHERE event LIKE 'break%%' ORDER BY 1") == [
        ("break-proposed",), ("break-taken",)
    ]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.usefixtures("clip")
def test_at_the_limit_of_the_day_the_clips_in_hand_are_the_last(page: Page, world: World) -> None:
    world.sql("""UPDATE ra_studies SET settings = '{"wellness": {"soft_minutes": 1, "hard_minutes": 2}}'""")
    world.sql("INSERT INTO ra_exposures (user_id, audio_id, heard_ms, intervals) VALUES (1, 1, 130000, '[[0, 130]]')")
    world.add_clip(audio=tone(2))
    for _ in range(2):
        page.keyboard.press("0")
        page.keyboard.press("Enter")
        settled(page)
    expect(page.get_by_role("heading", name="That is enough for today")).to_be_visible()
    assert world.sql("SELECT count(*) FROM ra_labels") == [(2,)]
