"""The app's pages in a real browser, with gunicorn as it is deployed. The review screen has tests of its own."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ra_app.browsing import CONTRAST, DOUBTS, NAMELESS, SCREEN, TYPICAL, log_in, open_clip, settled
from tests.ra_app.world import PASSWORD, World, hold, tone


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
    open_clip(page, world, clip)
    page.keyboard.press("1")
    page.locator("#note").fill("A note that goes on and on. " * 20)
    page.get_by_role("button", name="Submit").click()
    settled(page)
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
