"""A reviewer uses the app in a real browser, with gunicorn as it is deployed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.ra_app.serving import GUNICORN, serving
from tests.ra_app.world import PASSWORD, POLICY, World, hold, tone

SCREEN = {"width": 1280, "height": 720}
WAIT_MS = 30_000  # generous: the machine may be busy
PLAYER = "document.querySelector('#player')"
DOUBTS = ["few-words", "uncovered-speech", "unclear-language"]
TYPICAL = [{"start": 3.0 * n, "end": 3.0 * n + 2.9, "text": f"Sentence number {n} of a clip."} for n in range(10)]

# Every text on the page against what is painted behind it, by the formula of WCAG 2.
CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgb(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return rgb(getComputedStyle(document.body).backgroundColor);
  };
  const weak = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.push(`${ratio.toFixed(2)} ${element.tagName} ${element.textContent.trim().slice(0, 30)}`);
  }
  return weak;
}"""

# Form fields and buttons that a screen reader could not name.
NAMELESS = """() => [...document.querySelectorAll("input:not([type=hidden]), textarea, button, a, audio, progress")]
  .filter((e) => e.checkVisibility())
  .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.getAttribute("aria-labelledby")
                   || e.textContent.trim()))
  .map((e) => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    flags = ["--disable-background-networking", "--autoplay-policy=user-gesture-required"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium's sandbox does not start as root
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium_path, args=flags)
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(app: object, ra_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert app is not None  # the migrations have run
    with serving(GUNICORN, ra_env, tmp_path_factory.mktemp("gunicorn")) as url:
        yield url


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A new browser profile. Any error of the page fails the test."""
    context = browser.new_context(viewport=SCREEN, base_url=address)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    opened.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
    yield opened
    context.close()
    # What a page is still loading when one leaves it is cut off; that is no fault.
    assert [line for line in complaints if "ERR_ABORTED" not in line] == []


def log_in(page: Page) -> None:
    page.goto("/")
    page.get_by_label("User name").fill("mira")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your queue")).to_be_visible()


def audio(page: Page, what: str) -> Any:
    return page.evaluate(f"{PLAYER}.{what}")


def wait_audio(page: Page, condition: str) -> None:
    """Wait until something holds of the player `a`. One evaluation, not Playwright's polling: that one calls eval(),
    which the page's content security policy forbids.
    """
    page.evaluate(f"""() => new Promise((done, fail) => {{
      const a = {PLAYER};
      const look = setInterval(() => {{ if ({condition}) {{ clearInterval(look); done(); }} }}, 20);
      setTimeout(() => fail(new Error({condition!r} + " did not come true; at " + a.currentTime)), {WAIT_MS});
    }})""")


def open_clip(page: Page, world: World, clip: int) -> None:
    hold(world.app, "mira", clip)
    page.goto(f"/review/{clip}")
    wait_audio(page, "a.readyState >= 2 && a.duration > 1")


def test_from_the_log_in_to_the_next_clip(page: Page, world: World) -> None:
    world.add_user("mira")
    first = world.add_clip(audio=tone(30), segments=TYPICAL)
    second = world.add_clip(audio=tone(5, 330), segments=TYPICAL)
    parts: list[tuple[int, str | None]] = []
    page.on(
        "response",
        lambda answer: (
            parts.append((answer.status, answer.headers.get("content-range"))) if "/audio/" in answer.url else None
        ),
    )
    log_in(page)
    page.get_by_role("button", name="Start with the first clip").click()
    page.wait_for_url(f"**/review/{first}")
    wait_audio(page, "a.readyState >= 2")

    assert audio(page, "paused"), "no clip may start by itself"
    assert audio(page, "duration") == pytest.approx(30, abs=0.1)
    page.keyboard.press(" ")
    wait_audio(page, "!a.paused && a.currentTime > 0.3")
    page.get_by_role("button", name="Sentence number 8").click()
    wait_audio(page, "!a.seeking && a.currentTime >= 24 && a.currentTime < 27")
    expect(page.locator(".segment[aria-current]")).to_contain_text("Sentence number 8")
    page.keyboard.press("ArrowLeft")
    wait_audio(page, "a.currentTime < 24")
    assert parts
    assert {status for status, _ in parts} == {206}
    assert any(extent and extent.startswith("bytes 0-") for _, extent in parts)

    page.keyboard.press("2")
    expect(page.get_by_role("checkbox", name="Hate speech")).to_be_checked()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/review/{second}")
    expect(page.get_by_role("status")).to_contain_text(f"Label stored for clip {first}.")
    stored = world.sql(
        "SELECT a.audio_id, a.state, l.labels, l.blind FROM ra_labels l JOIN ra_assignments a USING (assignment_id)"
    )
    assert stored == [(first, "submitted", ["hate"], True)]
    assert audio(page, "paused")


def test_seeking_far_ahead_asks_for_that_part_only(page: Page, world: World) -> None:
    world.add_user("mira")
    long = world.add_clip(audio=tone(900), segments=[{"start": 880.0, "end": 890.0, "text": "Near the end."}])
    log_in(page)
    hold(world.app, "mira", long)
    page.goto(f"/review/{long}")
    wait_audio(page, "a.readyState >= 1")
    with page.expect_response(lambda answer: "/audio/" in answer.url and answer.status == 206):
        page.get_by_role("button", name="Near the end.").click()
    wait_audio(page, "!a.seeking && a.currentTime >= 879 && a.readyState >= 2")


def test_labels_by_keyboard_exclude_each_other_as_the_codebook_says(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, clip)
    chosen = page.locator("input[name=label]:checked")
    for keys, expected in [("1", ["violent_threat"]), ("2", ["violent_threat", "hate"]), ("0", ["no_violation"])]:
        page.keyboard.press(keys)
        assert chosen.evaluate_all("boxes => boxes.map(box => box.value)") == expected
    page.keyboard.press("u")
    assert chosen.evaluate_all("boxes => boxes.map(box => box.value)") == ["unsure"]
    expect(page.locator(".definitions")).to_contain_text("You listened, and cannot decide")


def test_submitting_without_a_choice_says_so_in_line(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, clip)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Choose at least one label before you submit.")
    page.keyboard.press("3")
    expect(page.get_by_role("alert")).to_be_hidden()
    assert page.url.endswith(f"/review/{clip}")


def test_keys_leave_the_note_alone_and_can_be_switched_off(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, clip)
    page.keyboard.press("n")
    page.keyboard.type("0 n s? 12")
    expect(page.get_by_label(re.compile("^Note"))).to_have_value("0 n s? 12")
    expect(page.locator("input[name=label]:checked")).to_have_count(0)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("checkbox", name=re.compile("single keys")).uncheck()
    page.get_by_role("button", name="Close", exact=True).click()
    page.keyboard.press("1")
    expect(page.locator("input[name=label]:checked")).to_have_count(0)
    page.reload()
    page.keyboard.press("1")
    expect(page.locator("input[name=label]:checked")).to_have_count(0)


def test_after_a_click_by_mouse_the_keys_still_play_and_submit(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(30), segments=TYPICAL), world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, first)
    page.get_by_role("button", name="Sentence number 5").click()
    page.locator(".choice", has_text="Hate speech").click()
    page.locator("#player").click()  # in its middle: on the time line
    wait_audio(page, "document.activeElement === document.body")
    page.keyboard.press(" ")
    wait_audio(page, "!a.paused")
    expect(page.get_by_role("checkbox", name="Hate speech")).to_be_checked()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/review/{second}")


def test_by_keyboard_alone_a_sentence_is_reached_and_played_from(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(30), segments=TYPICAL)
    log_in(page)
    open_clip(page, world, clip)
    page.get_by_role("button", name="Sentence number 4").focus()
    page.keyboard.press("Enter")
    wait_audio(page, "a.currentTime >= 12")
    page.keyboard.press("j")
    wait_audio(page, "a.currentTime >= 15")
    page.keyboard.press("k")
    wait_audio(page, "a.currentTime < 13")


def test_a_clip_can_be_set_aside_and_come_back_to(page: Page, world: World) -> None:
    world.add_user("mira")
    first, second = world.add_clip(audio=tone(3)), world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, first)
    page.keyboard.press("s")
    page.wait_for_url(f"**/review/{second}")
    page.get_by_role("button", name="Open it again").click()
    page.wait_for_url(f"**/review/{first}")


def test_a_clip_that_cannot_be_played_says_so(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=b"this is no audio")
    log_in(page)
    hold(world.app, "mira", clip)
    page.goto(f"/review/{clip}")
    expect(page.locator("#audio-problem")).to_be_visible()


def test_the_verdict_is_not_in_the_page_before_the_label_and_is_after(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, clip)
    assert POLICY not in page.content()
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Change it").click()
    page.go_back()
    page.go_forward()
    page.get_by_role("button", name="Show what the model said").wait_for()
    assert POLICY not in page.content(), "neither Back nor coming again reveals anything"
    page.get_by_role("button", name="Show what the model said").click()
    expect(page.get_by_text(POLICY)).to_be_visible()


@pytest.mark.parametrize("labelled", [False, True])
def test_a_typical_clip_fits_on_the_screen(page: Page, world: World, labelled: bool) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3), segments=TYPICAL, doubts=DOUBTS)
    log_in(page)
    open_clip(page, world, clip)
    if labelled:
        page.keyboard.press("0")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Change it").click()
        page.get_by_role("button", name="Show what the model said").click()
        page.locator(".verdicts").wait_for()
    for area in ("document.documentElement", "document.querySelector('.panel')", "document.querySelector('.listen')"):
        assert page.evaluate(f"{area}.scrollHeight - {area}.clientHeight") <= 0, area
    expect(page.get_by_role("button", name=re.compile("Submit|Store"))).to_be_in_viewport()


def test_a_line_of_the_queue_fits_on_the_screen_with_its_badge(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(filename=f"a-rather-{'long-' * 20}name.m4a", doubts=DOUBTS)
    world.study(shows=["filename", "batch"])
    hold(world.app, "mira", clip)
    log_in(page)
    frame = "document.querySelector('.table-frame')"
    assert page.evaluate(f"{frame}.scrollWidth - {frame}.clientWidth") <= 0
    expect(page.get_by_text("Doubtful", exact=True)).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_and_every_control_has_a_name(page: Page, world: World, theme: Any) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3), segments=TYPICAL, doubts=DOUBTS)
    page.emulate_media(color_scheme=theme)
    page.goto("/login")
    seen = [page.evaluate(CONTRAST), page.evaluate(NAMELESS)]
    log_in(page)
    hold(world.app, "mira", clip)
    for path in ("/", "/?quality=doubtful", "/?show=done", "/account", f"/review/{clip}"):
        page.goto(path)
        seen += [page.evaluate(CONTRAST), page.evaluate(NAMELESS)]
    page.keyboard.press("Enter")  # the problem shown in line
    page.keyboard.press("2")
    seen += [page.evaluate(CONTRAST), page.evaluate(NAMELESS)]
    assert seen == [[]] * len(seen)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_of_people_stand_out_and_every_control_has_a_name(page: Page, world: World, theme: Any) -> None:
    number = world.add_user("jo")
    world.add_user("mira", role="admin")
    clip = world.add_clip(audio=tone(1))
    page.emulate_media(color_scheme=theme)
    log_in(page)
    hold(world.app, "mira", clip)
    page.goto(f"/review/{clip}")
    page.keyboard.press("1")
    page.get_by_label("Note").fill("A note that goes on and on. " * 20)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("status")).to_contain_text("Label stored")
    seen = []
    page.goto("/people")
    page.get_by_role("button", name="Make an invitation link").click()
    link = page.locator(".link-text").inner_text()
    seen += [page.evaluate(CONTRAST), page.evaluate(NAMELESS)]
    for path in ("/people", f"/people/{number}", "/people/2", "/me", "/me?q=nothing", link):
        page.goto(path)
        seen += [page.evaluate(CONTRAST), page.evaluate(NAMELESS)]
        assert page.evaluate("document.documentElement.scrollWidth") <= SCREEN["width"]
    page.set_viewport_size({"width": 420, "height": 800})
    for path in ("/people", f"/people/{number}", "/me", link):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 420, path
    page.get_by_label("User name").fill("zoe")
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.get_by_label("New password again").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="zoe")).to_be_visible()
    assert seen == [[]] * len(seen)


def test_after_the_log_out_neither_back_nor_a_copied_cookie_opens_a_page(page: Page, world: World) -> None:
    world.add_user("mira")
    log_in(page)
    copied = page.context.cookies()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("status")).to_contain_text("You are logged out")
    page.go_back()
    expect(page.get_by_label("Password")).to_be_visible()
    page.context.clear_cookies()
    page.context.add_cookies(copied)
    page.goto("/account")
    expect(page.get_by_label("Password")).to_be_visible()


def test_work_on_a_clip_outlives_the_session(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, clip)
    page.keyboard.press("2")
    page.get_by_role("radio", name="High").check()
    page.get_by_label(re.compile("^Note")).fill("said at 0:06")
    world.sql("UPDATE ra_users SET session_epoch = session_epoch + 1")
    page.get_by_role("button", name=re.compile("^Submit")).click()
    expect(page.get_by_role("status")).to_contain_text("Your session has ended")
    page.get_by_label("User name").fill("mira")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/review/{clip}")
    expect(page.get_by_text("not stored yet")).to_be_visible()
    expect(page.get_by_role("checkbox", name="Hate speech")).to_be_checked()
    page.get_by_role("button", name=re.compile("^Submit")).click()
    expect(page.get_by_text(f"Label stored for clip {clip}.")).to_be_visible()
    assert world.sql("SELECT labels, confidence, note FROM ra_labels") == [(["hate"], 3, "said at 0:06")]
    page.goto(f"/review/{clip}")
    expect(page.get_by_text("not stored yet")).to_be_hidden()


def test_unsent_work_is_forgotten_at_the_log_out(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, clip)
    page.get_by_label(re.compile("^Note")).fill("for nobody else")
    assert "for nobody else" in page.evaluate("JSON.stringify(sessionStorage)")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    assert page.evaluate("JSON.stringify(sessionStorage)") == "{}"


def test_a_second_tab_that_is_stale_shows_the_conflict(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    log_in(page)
    open_clip(page, world, clip)
    other = page.context.new_page()
    other.goto(f"/review/{clip}")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"Label stored for clip {clip}.")).to_be_visible()
    other.keyboard.press("3")
    other.keyboard.press("Enter")
    expect(other.get_by_text("Another label for this clip was stored")).to_be_visible()
    assert (other.evaluate(CONTRAST), other.evaluate(NAMELESS)) == ([], [])
    other.get_by_role("button", name=re.compile("^Store the change")).click()
    expect(other.get_by_text(f"Label stored for clip {clip}.")).to_be_visible()
    assert world.sql("SELECT labels FROM ra_labels ORDER BY label_id") == [(["hate"],), (["scam"],)]


def test_a_draft_and_what_was_heard_reach_the_server(page: Page, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(5))
    log_in(page)
    open_clip(page, world, clip)
    page.keyboard.press(" ")
    wait_audio(page, "a.currentTime > 1")
    page.keyboard.press(" ")
    with page.expect_response(lambda answer: answer.url.endswith("/draft")) as kept:
        page.get_by_label(re.compile("^Note")).fill("half a thought")
    assert kept.value.status == 200
    page.evaluate("sessionStorage.clear()")
    page.goto(f"/review/{clip}")
    expect(page.get_by_text("not stored yet")).to_be_visible()
    expect(page.get_by_label(re.compile("^Note"))).to_have_value("half a thought")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"Label stored for clip {clip}.")).to_be_visible()
    stored = "SELECT note, heard_ms > 500, active_ms > 500 FROM ra_labels"
    assert world.sql(stored) == [("half a thought", True, True)]


def test_without_scripts_a_label_can_still_be_given(browser: Browser, address: str, world: World) -> None:
    world.add_user("mira")
    clip = world.add_clip(audio=tone(3))
    context = browser.new_context(viewport=SCREEN, base_url=address, java_script_enabled=False)
    page = context.new_page()
    log_in(page)
    page.get_by_role("button", name="Start with the first clip").click()
    page.get_by_role("checkbox", name="Unsure").check()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("status").first).to_contain_text(f"Label stored for clip {clip}.")
    assert world.sql("SELECT labels FROM ra_labels") == [(["unsure"],)]
    context.close()
